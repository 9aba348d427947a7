// Each thread computes a block of 8 x 8 of one product from 4 x 4 matrices, loaded as four vectors
// each: 16 loads for 256 multiplications. For operands whose lines are whole vectors, along the
// summed axis or across it; places and strides count vectors. What lies beyond the edge repeats the
// last line and is not stored.

fn x_place(at: i32, row: i32, j: i32) -> i32 {
    let line = min((row + j) >> $x_shift, ($rows >> $x_shift) - 1);
    return at + line * $x_line + (j & 3) * $x_inner;
}

fn y_place(at: i32, column: i32, j: i32) -> i32 {
    let line = min((column + j) >> $y_shift, ($columns >> $y_shift) - 1);
    return at + line * $y_line + (j & 3) * $y_inner;
}

fn store(at: i32, value: vec4<f32>) {
    save(at, $stored);
}

fn put(row: i32, at: i32, first: vec4<f32>, second: vec4<f32>, both: bool) {
    if (row < $rows) {
        store(at, first);
        if (both) {
            store(at + 1, second);
        }
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.y * groups.x + group.x;
    let across = u32($across);
    let down = u32($down);
    let row = i32((number / across) % down * 8u + lane / 8u) * 8;
    let column = i32(number % across * 8u + lane % 8u) * 8;
    let i = i32(number / across / down);
    if (row >= $rows || column >= $columns || i >= $lead) {
        return;
    }
$index
    at0 >>= 2u;
    at1 >>= 2u;
    let m0 = x_place(at0, row, 0);
    let m1 = x_place(at0, row, 1);
    let m2 = x_place(at0, row, 2);
    let m3 = x_place(at0, row, 3);
    let m4 = x_place(at0, row, 4);
    let m5 = x_place(at0, row, 5);
    let m6 = x_place(at0, row, 6);
    let m7 = x_place(at0, row, 7);
    let n0 = y_place(at1, column, 0);
    let n1 = y_place(at1, column, 1);
    let n2 = y_place(at1, column, 2);
    let n3 = y_place(at1, column, 3);
    let n4 = y_place(at1, column, 4);
    let n5 = y_place(at1, column, 5);
    let n6 = y_place(at1, column, 6);
    let n7 = y_place(at1, column, 7);
    // Rows and columns 0..3 and 4..7 of the block; a matrix column is a row of the product.
    var s = mat4x4<f32>();
    var t = mat4x4<f32>();
    var u = mat4x4<f32>();
    var v = mat4x4<f32>();
    let turns = $inner >> 2u;
    let x_step = $x_step;
    let y_step = $y_step;
    var m = 0;
    var n = 0;
    for (var turn = 0; turn < turns; turn += 1) {
        let b = $y_turn(mat4x4<f32>(load1(n0 + n), load1(n1 + n), load1(n2 + n), load1(n3 + n)));
        let c = $y_turn(mat4x4<f32>(load1(n4 + n), load1(n5 + n), load1(n6 + n), load1(n7 + n)));
        let a = $x_turn(mat4x4<f32>(load0(m0 + m), load0(m1 + m), load0(m2 + m), load0(m3 + m)));
        s += b * a;
        t += c * a;
        let d = $x_turn(mat4x4<f32>(load0(m4 + m), load0(m5 + m), load0(m6 + m), load0(m7 + m)));
        u += b * d;
        v += c * d;
        m += x_step;
        n += y_step;
    }
    let width = $columns >> 2u;
    let goal = (param(0u) >> 2u) + (i * $rows + row) * width + (column >> 2u);
    let both = column + 4 < $columns;
    put(row, goal, s[0], t[0], both);
    put(row + 1, goal + width, s[1], t[1], both);
    put(row + 2, goal + 2 * width, s[2], t[2], both);
    put(row + 3, goal + 3 * width, s[3], t[3], both);
    put(row + 4, goal + 4 * width, u[0], v[0], both);
    put(row + 5, goal + 5 * width, u[1], v[1], both);
    put(row + 6, goal + 6 * width, u[2], v[2], both);
    put(row + 7, goal + 7 * width, u[3], v[3], both);
}

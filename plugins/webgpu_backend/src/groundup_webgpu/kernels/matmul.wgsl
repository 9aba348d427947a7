// Each thread computes a block of 8 x 8 of one product, kept in named registers: 16 loads for 64
// multiplications. Strided operands. Rows and columns beyond the edge repeat the last one and are not
// stored.

fn store(at: i32, value: $type) {
    save(at, $stored);
}

fn put(at: i32, first: vec4<$type>, second: vec4<$type>, width: i32) {
    put4(at, first, width);
    put4(at + 4, second, width - 4);
}

fn put4(at: i32, values: vec4<$type>, width: i32) {
    if (width > 0) {
        store(at, values.x);
    }
    if (width > 1) {
        store(at + 1, values.y);
    }
    if (width > 2) {
        store(at + 2, values.z);
    }
    if (width > 3) {
        store(at + 3, values.w);
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = $rows;
    let columns = $columns;
    let inner = $inner;
    let x_row = $x_line;
    let x_inner = $x_inner;
    let y_inner = $y_inner;
    let y_column = $y_line;
    let number = group.y * groups.x + group.x;
    let across = u32($across);
    let down = u32($down);
    let row = i32((number / across) % down * 8u + lane / 8u) * 8;
    let column = i32(number % across * 8u + lane % 8u) * 8;
    let i = i32(number / across / down);
    if (row >= rows || column >= columns || i >= $lead) {
        return;
    }
$index
    var m0 = at0 + min(row + 0, rows - 1) * x_row;
    var m1 = at0 + min(row + 1, rows - 1) * x_row;
    var m2 = at0 + min(row + 2, rows - 1) * x_row;
    var m3 = at0 + min(row + 3, rows - 1) * x_row;
    var m4 = at0 + min(row + 4, rows - 1) * x_row;
    var m5 = at0 + min(row + 5, rows - 1) * x_row;
    var m6 = at0 + min(row + 6, rows - 1) * x_row;
    var m7 = at0 + min(row + 7, rows - 1) * x_row;
    var n0 = at1 + min(column + 0, columns - 1) * y_column;
    var n1 = at1 + min(column + 1, columns - 1) * y_column;
    var n2 = at1 + min(column + 2, columns - 1) * y_column;
    var n3 = at1 + min(column + 3, columns - 1) * y_column;
    var n4 = at1 + min(column + 4, columns - 1) * y_column;
    var n5 = at1 + min(column + 5, columns - 1) * y_column;
    var n6 = at1 + min(column + 6, columns - 1) * y_column;
    var n7 = at1 + min(column + 7, columns - 1) * y_column;
    var s0 = vec4<$type>();
    var t0 = vec4<$type>();
    var s1 = vec4<$type>();
    var t1 = vec4<$type>();
    var s2 = vec4<$type>();
    var t2 = vec4<$type>();
    var s3 = vec4<$type>();
    var t3 = vec4<$type>();
    var s4 = vec4<$type>();
    var t4 = vec4<$type>();
    var s5 = vec4<$type>();
    var t5 = vec4<$type>();
    var s6 = vec4<$type>();
    var t6 = vec4<$type>();
    var s7 = vec4<$type>();
    var t7 = vec4<$type>();
    for (var k = 0; k < inner; k += 1) {
        let b = vec4<$type>(load1(n0), load1(n1), load1(n2), load1(n3));
        let c = vec4<$type>(load1(n4), load1(n5), load1(n6), load1(n7));
        let a0 = load0(m0);
        s0 += a0 * b;
        t0 += a0 * c;
        let a1 = load0(m1);
        s1 += a1 * b;
        t1 += a1 * c;
        let a2 = load0(m2);
        s2 += a2 * b;
        t2 += a2 * c;
        let a3 = load0(m3);
        s3 += a3 * b;
        t3 += a3 * c;
        let a4 = load0(m4);
        s4 += a4 * b;
        t4 += a4 * c;
        let a5 = load0(m5);
        s5 += a5 * b;
        t5 += a5 * c;
        let a6 = load0(m6);
        s6 += a6 * b;
        t6 += a6 * c;
        let a7 = load0(m7);
        s7 += a7 * b;
        t7 += a7 * c;
        m0 += x_inner;
        m1 += x_inner;
        m2 += x_inner;
        m3 += x_inner;
        m4 += x_inner;
        m5 += x_inner;
        m6 += x_inner;
        m7 += x_inner;
        n0 += y_inner;
        n1 += y_inner;
        n2 += y_inner;
        n3 += y_inner;
        n4 += y_inner;
        n5 += y_inner;
        n6 += y_inner;
        n7 += y_inner;
    }
    let goal = param(0u) + (i * rows + row) * columns + column;
    let width = columns - column;
    put(goal, s0, t0, width);
    if (row + 1 < rows) {
        put(goal + 1 * columns, s1, t1, width);
    }
    if (row + 2 < rows) {
        put(goal + 2 * columns, s2, t2, width);
    }
    if (row + 3 < rows) {
        put(goal + 3 * columns, s3, t3, width);
    }
    if (row + 4 < rows) {
        put(goal + 4 * columns, s4, t4, width);
    }
    if (row + 5 < rows) {
        put(goal + 5 * columns, s5, t5, width);
    }
    if (row + 6 < rows) {
        put(goal + 6 * columns, s6, t6, width);
    }
    if (row + 7 < rows) {
        put(goal + 7 * columns, s7, t7, width);
    }
}

// Each thread computes a 4 x 4 block of one product, kept in named registers. Strided operands.

fn put(at: i32, values: vec4<$type>, width: i32) {
    out[at] = values.x;
    if (width > 1) {
        out[at + 1] = values.y;
    }
    if (width > 2) {
        out[at + 2] = values.z;
    }
    if (width > 3) {
        out[at + 3] = values.w;
    }
}

@compute @workgroup_size(8, 8)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let rows = $rows;
    let columns = $columns;
    let inner = $inner;
    let row = i32(group.y * 8u + lane.y) * 4;
    let column = i32(group.x * 8u + lane.x) * 4;
    let i = i32(group.z);
    if (row >= rows || column >= columns) {
        return;
    }
$index
    let m0 = at0 + row * $x_row;
    let n0 = at1 + column * $y_column;
    // Rows and columns beyond the edge repeat the last one and are not stored.
    let m1 = at0 + min(row + 1, rows - 1) * $x_row;
    let m2 = at0 + min(row + 2, rows - 1) * $x_row;
    let m3 = at0 + min(row + 3, rows - 1) * $x_row;
    let n1 = at1 + min(column + 1, columns - 1) * $y_column;
    let n2 = at1 + min(column + 2, columns - 1) * $y_column;
    let n3 = at1 + min(column + 3, columns - 1) * $y_column;
    var s0 = vec4<$type>();
    var s1 = vec4<$type>();
    var s2 = vec4<$type>();
    var s3 = vec4<$type>();
    for (var k = 0; k < inner; k += 1) {
        let dx = k * $x_inner;
        let dy = k * $y_inner;
        let b = vec4<$type>(in1[n0 + dy], in1[n1 + dy], in1[n2 + dy], in1[n3 + dy]);
        s0 += in0[m0 + dx] * b;
        s1 += in0[m1 + dx] * b;
        s2 += in0[m2 + dx] * b;
        s3 += in0[m3 + dx] * b;
    }
    let goal = $place + (i * rows + row) * columns + column;
    let width = columns - column;
    put(goal, s0, width);
    if (row + 1 < rows) {
        put(goal + columns, s1, width);
    }
    if (row + 2 < rows) {
        put(goal + 2 * columns, s2, width);
    }
    if (row + 3 < rows) {
        put(goal + 3 * columns, s3, width);
    }
}

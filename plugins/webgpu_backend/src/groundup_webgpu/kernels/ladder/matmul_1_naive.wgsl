// Matrix product, rung 1: the formula. One invocation for each number of out = x y adds up a row of
// x times a column of y. Neighbours take neighbouring columns, so what they read of y lies side by
// side, and what they read of x is one number for all of them.
//
// 2048 x 2048 x 2048 are 17 GFLOP, and 50 MB of float32 that must move: arithmetic should be the
// limit. But each multiply-add takes two loads, and a GPU starts four multiply-adds or more in the
// time of one load: at most 1 / 8 of its peak. And every row of out reads all of y again.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = $rows;
    let inner = $inner;
    let columns = $columns;
    let number = i32((group.y * groups.x + group.x) * 64u + lane);
    if (number >= rows * columns) {
        return;
    }
    let x = param(1u) + number / columns * inner;
    let y = param(2u) + number % columns;
    var sum = 0.0;
    for (var k = 0; k < inner; k += 1) {
        sum += load0(x + k) * load1(y + k * columns);
    }
    save(param(0u) + number, sum);
}

// Threads share each piece of the elements of a result: they stride over them, then a tree. As many
// share as it takes to keep the device busy. Pieces bound each thread's turns: Mesa's software driver
// leaves loops after 65,535 of them.

const LANES = ${lanes}u;
var<workgroup> partial: array<$type, 64>;

fn joined(a: $type, b: $type) -> $type {
    return $joined;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = thread % LANES;
    let number = i32((group.y * groups.x + group.x) * (64u / LANES) + thread / LANES);
    let live = number < $rows * $pieces;
    let i = i32(u32(number) % u32($rows));
    let from_turn = i32(u32(number) / u32($rows)) * $piece;
$index
    let first = at0;
    var total = $start;
    if (live) {
        for (var j = from_turn + i32(lane); j < min(from_turn + $piece, $count); j += i32(LANES)) {
$inner
            total = joined(total, $element);
        }
    }
    partial[thread] = total;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step = step / 2u) {
        if (lane < step) {
            partial[thread] = joined(partial[thread], partial[thread + step]);
        }
        workgroupBarrier();
    }
    if (live && lane == 0u) {
        save(param(0u) + number, partial[thread]);
    }
}

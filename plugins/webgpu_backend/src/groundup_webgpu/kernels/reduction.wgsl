// Threads share each output element, or piece of one: they stride over the reduced elements, then a
// tree. As many share as it takes to keep the device busy. Pieces bound each thread's turns: Mesa's
// software driver leaves loops after 65,535 of them.

const LANES = ${lanes}u;
var<workgroup> partial: array<$type, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = thread % LANES;
    let number = i32((group.y * groups.x + group.x) * (64u / LANES) + thread / LANES);
    let live = number < $size;
    let i = i32(u32(number) / u32($pieces));
    let from_turn = i32(u32(number) % u32($pieces)) * $piece;
$index
    let first = at0;
    var total = $start;
    if (live) {
        for (var j = from_turn + i32(lane); j < min(from_turn + $piece, $count); j += i32(LANES)) {
$inner
            total = $combine_value;
        }
    }
    partial[thread] = total;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step = step / 2u) {
        if (lane < step) {
            let a = partial[thread];
            let b = partial[thread + step];
            partial[thread] = $combine;
        }
        workgroupBarrier();
    }
    if (live && lane == 0u) {
        save(param(0u) + number, partial[thread]);
    }
}

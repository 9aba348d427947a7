// One workgroup per output element, or per piece of it: threads stride over the reduced elements, then
// a tree. Pieces bound each thread's turns: Mesa's software driver leaves loops after 65,535 of them.

var<workgroup> partial: array<$type, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = i32(group.y * groups.x + group.x);
    let live = number < $size;
    let i = number / $pieces;
    let from_turn = number % $pieces * $piece;
$index
    let first = at0;
    var total = $start;
    if (live) {
        for (var j = from_turn + i32(lane); j < min(from_turn + $piece, $count); j += 64) {
$inner
            total = $combine_value;
        }
    }
    partial[lane] = total;
    workgroupBarrier();
    for (var step = 32u; step > 0u; step = step / 2u) {
        if (lane < step) {
            let a = partial[lane];
            let b = partial[lane + step];
            partial[lane] = $combine;
        }
        workgroupBarrier();
    }
    if (live && lane == 0u) {
        out[param(0u) + number] = partial[0];
    }
}

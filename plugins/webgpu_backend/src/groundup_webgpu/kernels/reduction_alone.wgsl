// One thread per output element, or piece of one: reduction.wgsl where there are enough of them to
// keep the device busy, so that none has to wait for another.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = i32((group.y * groups.x + group.x) * 64u + thread);
    if (number >= $size) {
        return;
    }
    let i = i32(u32(number) / u32($pieces));
    let from_turn = i32(u32(number) % u32($pieces)) * $piece;
$index
    let first = at0;
    var total = $start;
    for (var j = from_turn; j < min(from_turn + $piece, $count); j += 1) {
$inner
        total = $combine_value;
    }
    save(param(0u) + number, total);
}

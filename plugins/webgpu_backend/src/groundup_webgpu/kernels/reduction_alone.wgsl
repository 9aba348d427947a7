// One thread for each piece of the elements of a result: reduction.wgsl where there are enough of
// them to keep the device busy, so that none has to wait for another.

fn joined(a: $type, b: $type) -> $type {
    return $joined;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = i32((group.y * groups.x + group.x) * 64u + thread);
    if (number >= $rows * $pieces) {
        return;
    }
    let i = i32(u32(number) % u32($rows));
    let from_turn = i32(u32(number) / u32($rows)) * $piece;
$index
    let first = at0;
    var total = $start;
    for (var j = from_turn; j < min(from_turn + $piece, $count); j += 1) {
$inner
        total = joined(total, $element);
    }
    save(param(0u) + number, total);
}

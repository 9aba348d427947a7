// Adds up, in order, $width neighbouring elements of all pieces, which lie one behind the other in
// scratch memory.

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = i32((group.y * groups.x + group.x) * 256u + lane);
    if (i >= $units) {
        return;
    }
    let first = param(1u) / $width + i;
    var sum = load0(first);
    for (var piece = 1; piece < $pieces; piece += 1) {
        sum += load0(first + piece * $units);
    }
    save(param(0u) / $width + i, sum);
}

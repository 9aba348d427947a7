// Adds each source element where its index says. Floats are added by compare and exchange, since
// WGSL has no float atomics: no update is lost, but the order of additions is not fixed.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = i32((group.y * groups.x + group.x) * 64u + lane);
    if (i >= $size) {
        return;
    }
$index
    let chosen = in0[at0];
    if (chosen < 0 || chosen >= $bound) {
        return;
    }
    let goal = $place + chosen * $step;
    let value = in1[at1];
    $add
}

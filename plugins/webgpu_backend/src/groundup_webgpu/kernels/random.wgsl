// Random words, or what is made of each; four a thread.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = (group.y * groups.x + group.x) * 64u + lane;
    let size = u32($size);
    if (block * 4u >= size) {
        return;
    }
    let at = param(1u);
    let step = $state_step;
    let seed = vec2<u32>(bitcast<u32>(load0(at)), bitcast<u32>(load0(at + step)));
    let draw = vec2<u32>(bitcast<u32>(load0(at + 2 * step)), bitcast<u32>(load0(at + 3 * step)));
    let c = philox(block, seed, draw);
    let goal = u32(param(0u)) + block * 4u;
    for (var w = 0u; w < min(4u, size - block * 4u); w += 1u) {
        let word = c[w];
        save(i32(goal + w), $value);
    }
}

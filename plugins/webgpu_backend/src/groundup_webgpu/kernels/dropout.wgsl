// x / (1 - p), or 0 where the random bits of the place say so: four places a thread, of one block.

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = (group.y * groups.x + group.x) * 256u + lane;
    let first = i32(block) * 4;
    if (first >= $size) {
        return;
    }
    let state = param(2u);
    let seed = vec2<u32>(
        bitcast<u32>(load1(state)), bitcast<u32>(load1(state + $state_step))
    );
    let draw = vec2<u32>(
        bitcast<u32>(load1(state + 2 * $state_step)), bitcast<u32>(load1(state + 3 * $state_step))
    );
    let bits = philox(block, seed, draw) >> vec4<u32>(8u);
$write
}

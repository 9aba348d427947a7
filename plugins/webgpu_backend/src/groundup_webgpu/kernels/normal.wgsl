// Two normal numbers a thread, by Box and Muller (1958): the first half of all are cosines.

fn bits(element: u32, seed: vec2<u32>, draw: vec2<u32>) -> u32 {
    return philox(element / 4u, seed, draw)[element % 4u] >> 8u;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let pairs = u32($pairs);
    if (i >= pairs) {
        return;
    }
    let at = param(1u);
    let step = $state_step;
    let seed = vec2<u32>(bitcast<u32>(load0(at)), bitcast<u32>(load0(at + step)));
    let draw = vec2<u32>(bitcast<u32>(load0(at + 2 * step)), bitcast<u32>(load0(at + 3 * step)));
    let u = f32(bits(i, seed, draw) + 1u) * 5.9604644775390625e-8;
    let v = f32(bits(pairs + i, seed, draw)) * 5.9604644775390625e-8;
    let radius = sqrt(log_f32(u) * -2.0);
    let angle = (v - 0.5) * 6.283185307179586;
    save(param(0u) + i32(i), radius * cos(angle) * $std + $mean);
    if (pairs + i < u32($size)) {
        save(param(0u) + i32(pairs + i), radius * sin(angle) * $std + $mean);
    }
}

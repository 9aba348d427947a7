// The gradients of batch_norm's vectors from each channel's two sums.

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let channel = i32((group.y * groups.x + group.x) * 256u + thread);
    if (channel >= $channels) {
        return;
    }
    let moment = load0(param(4u) + 2 * channel);
    let sum = load0(param(4u) + 2 * channel + 1);
    let scale = inverseSqrt(load1(param(5u) + channel) + $eps);
    let slope = scale * load2(param(6u) + channel);
    save(param(0u) + channel, -sum * slope);
    save1(param(1u) + channel, moment * slope * scale * scale * -0.5);
    save2(param(2u) + channel, moment * scale);
    save3(param(3u) + channel, sum);
}

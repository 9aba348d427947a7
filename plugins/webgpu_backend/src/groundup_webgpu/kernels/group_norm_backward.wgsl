// dx of group_norm for each row; its mean and its scale stay in scratch memory, for channel_sums.

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = i32(thread % LANES);
    let number = i32((group.y * groups.x + group.x) * (256u / LANES) + thread / LANES);
    let live = number < $rows;
    let i = min(number, $rows - 1);
    let at0 = param(2u) + i * $width;
    let at2 = param(4u) + i * $width;
    var share = 0.0;
    for (var c = lane; c < $width; c += i32(LANES)) {
        share += load0(at0 + c);
    }
    let mean = total(share, thread) / $size;
    share = 0.0;
    for (var c = lane; c < $width; c += i32(LANES)) {
        let off = load0(at0 + c) - mean;
        share += off * off;
    }
    let scale = inverseSqrt(total(share, thread) / $size + $eps);
    var slope = 0.0;
    var product = 0.0;
    for (var c = lane; c < $width; c += i32(LANES)) {
        let channel = i % $groups * $channels + c / $area;
        let dy = load2(at2 + c) * load1(param(3u) + channel);
        slope += dy;
        product += dy * ((load0(at0 + c) - mean) * scale);
    }
    slope = total(slope, thread) / $size;
    product = total(product, thread) / $size;
    if (live) {
        for (var c = lane; c < $width; c += i32(LANES)) {
            let channel = i % $groups * $channels + c / $area;
            let dy = load2(at2 + c) * load1(param(3u) + channel);
            let y = (load0(at0 + c) - mean) * scale;
            save(param(0u) + i * $width + c, (dy - slope - y * product) * scale);
        }
        if (lane == 0) {
            save1(param(1u) + 2 * i, mean);
            save1(param(1u) + 2 * i + 1, scale);
        }
    }
}

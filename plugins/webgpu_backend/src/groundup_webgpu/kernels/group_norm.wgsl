// Rows of mean 0 and variance 1, in two passes, then a weight and a bias for each channel in them.

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
    let at0 = param(1u) + i * $width;
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
    if (live) {
        for (var c = lane; c < $width; c += i32(LANES)) {
            let channel = i % $groups * $channels + c / $area;
            let y = (load0(at0 + c) - mean) * scale;
            save(param(0u) + i * $width + c, y * load1(param(2u) + channel) + load2(param(3u) + channel));
        }
    }
}

// The variance of each row, in two passes.

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
$index
    var share = 0.0;
    for (var c = lane; c < $width; c += i32(LANES)) {
        share += load0(at0 + c * $step0);
    }
    let mean = total(share, thread) / $size;
    share = 0.0;
    for (var c = lane; c < $width; c += i32(LANES)) {
        let off = load0(at0 + c * $step0) - mean;
        share += off * off;
    }
    let sum = total(share, thread);
    if (live && lane == 0) {
        save(param(0u) + i, $value);
    }
}

// The gradient of softmax or log_softmax from the result and its gradient.

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = thread % LANES;
    let number = i32((group.y * groups.x + group.x) * (256u / LANES) + thread / LANES);
    let live = number < $rows;
    let i = min(number, $rows - 1);
$index
    var share = Unit();
    for (var c = i32(lane); c < $units; c += i32(LANES)) {
        let y = load0(at0 + c * $step0);
        let dy = load1(at1 + c * $step1);
        share += $share;
    }
    let sum = total(sum_of(share), thread);
    if (live) {
        for (var c = i32(lane); c < $units; c += i32(LANES)) {
            let y = load0(at0 + c * $step0);
            let dy = load1(at1 + c * $step1);
            save(place + c * $step, $value);
        }
    }
}

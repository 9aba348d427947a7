// Softmax of each row, or its logarithm: one pass for the sum, a second over cached memory writes.

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
    let row = exponentials(at0, lane, thread);
    let top = row.top;
    // All are -inf, or one is +inf: the result is NaN.
    let broken = row.sum == 0.0 || is_infinite(top);
    let factor = select($factor, nan(), broken);
    if (live) {
        for (var c = i32(lane); c < $units; c += i32(LANES)) {
            let x = load0(at0 + c * $step0);
            save(place + c * $step, $value);
        }
    }
}

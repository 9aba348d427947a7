// The logarithm of the sum of exp(x) of each row.

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
    if (live && lane == 0u) {
        let finite = select(row.top + log(row.sum), -infinity(), row.sum == 0.0);
        save(param(0u) + i, select(finite, row.top, is_infinite(row.top)));
    }
}

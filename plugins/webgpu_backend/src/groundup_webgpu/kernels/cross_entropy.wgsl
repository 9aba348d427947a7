// Each row's logsumexp, its loss, and whether it counts. The sum over rows is row_losses.wgsl's.

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
    if (live && lane == 0u) {
        let weight = select(log(row.sum), nan(), row.sum == 0.0 || is_infinite(top));
        save1(param(1u) + i, weight + top);
        let chosen = load1(at1);
        let counts = chosen != $ignored;
        let known = counts && chosen >= 0 && chosen < $classes;
        let class_id = select(0, chosen, known);
        let loss = weight - select(0.0, $picked - top, known);
        save(param(0u) + i, select(0.0, loss, counts));
$more
    }
}

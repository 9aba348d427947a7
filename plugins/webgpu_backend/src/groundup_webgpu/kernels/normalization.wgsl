// Each row to mean 0 (unless it is a root mean square that is wanted) and size 1, times weight,
// plus bias. The variance is summed from differences to the mean, in a second pass over cached
// memory.

fn mean_of($places, lane: u32, thread: u32) -> f32 {
    var sum = Unit();
    for (var c = i32(lane); c < $units; c += i32(LANES)) {
        sum += $x;
    }
    return total(sum_of(sum), thread) * $share;
}

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
    let mean = $mean;
    var squares = Unit();
    for (var c = i32(lane); c < $units; c += i32(LANES)) {
        let centred = $x - mean;
        squares += centred * centred;
    }
    let scale = inverseSqrt(total(sum_of(squares), thread) * $share + $eps);
    if (live) {
        for (var c = i32(lane); c < $units; c += i32(LANES)) {
            let value = $x;
            let goal = i * $units + c;
            save(param(0u) / WIDTH + goal, (value - mean) * scale * $weight$bias);
$more
        }
    }
}

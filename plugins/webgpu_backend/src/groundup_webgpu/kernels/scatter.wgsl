// Adds source elements where their indices say. A thread reads one line of indices in order and
// adds what goes to its own range of places: no two threads meet, and the order is fixed.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = (group.y * groups.x + group.x) * 64u + thread;
    if (i32(number) >= $size) {
        return;
    }
    let i = i32(number % u32($lines));
    let first = i32(number / u32($lines)) * $span;
    let own = u32(min($span, $bound - first));
$index
    for (var j = $start; j < $stop; j += 1) {
        let chosen = load0(at0 + j * $index_step);
        if (u32(chosen - first) < own) {
            let goal = place + chosen * $step;
            save(goal, out[goal] + load1(at1 + j * $source_step));
        }
    }
}

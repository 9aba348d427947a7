// Running sums, one thread for each row.

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = i32((group.y * groups.x + group.x) * 256u + thread);
    if (i >= $rows) {
        return;
    }
$index
    var sum = $type();
    for (var c = 0; c < $width; c += 1) {
        sum += $type(load0(at0 + c * $step0));
        save(place + c * $step, sum);
    }
}

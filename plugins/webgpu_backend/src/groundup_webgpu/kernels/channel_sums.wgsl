// For each channel, which is a workgroup's, the sums of grad and of grad times the centred x.

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let channel = i32(group.y * groups.x + group.x);
    if (channel >= $channels) {
        return;
    }
    var moment = 0.0;
    var plain = 0.0;
    for (var j = i32(thread); j < $count; j += 256) {
        let at = (j / $area * $channels + channel) * $area + j % $area;
        let dy = $grad;
        plain += dy;
        moment += dy * ($centred);
    }
    let sum = total(plain, thread);
    let product = total(moment, thread);
    if (thread == 0u) {
$write
    }
}

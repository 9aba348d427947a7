// map.wgsl where all operands lie in order: a thread reads and writes four elements at once.

fn value_of($arguments) -> $type {
$steps
    return $value;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = i32((group.y * groups.x + group.x) * 256u + lane);
    if (i >= $size) {
        return;
    }
$loads
    save(param(0u) / 4 + i, vec4<$type>($values));
}

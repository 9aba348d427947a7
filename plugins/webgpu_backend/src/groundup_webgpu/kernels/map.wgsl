// One thread per output element: its place, the operands' places, one expression.

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
$index
    save(place, $value);
}

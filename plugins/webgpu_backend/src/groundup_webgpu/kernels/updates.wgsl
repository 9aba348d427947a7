// Some of an optimizer's parameters in one dispatch. Each has whole workgroups of its own, of
// $each elements.

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = i32(group.y * groups.x + group.x);
    let rates = $rates;
    let lr = load0(rates);
    let gradient_scale = load0(rates + 1);
$updates
}

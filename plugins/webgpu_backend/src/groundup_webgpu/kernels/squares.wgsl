// Sums of squares of pieces of some tensors, one number for each workgroup, to scratch memory.

fn squared(x: f32) -> f32 {
    return x * x;
}

fn squared_vector(x: vec4<f32>) -> f32 {
    return dot(x, x);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = i32(group.y * groups.x + group.x);
    var sum = 0.0;
$pieces
    let all = total(sum, thread);
    if (thread == 0u && number < $groups) {
        save(param(0u) + $begin + number, all);
    }
}

// The sum and the largest of each row of LANES threads, known to the host.

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    let sum = total(f32(thread), thread);
    let top = largest(f32(thread * 37u % 251u), thread);
    save(param(0u) + i32(thread), sum);
    save(param(0u) + 256 + i32(thread), top);
}

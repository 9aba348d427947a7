// Numbers that float16 has not, and some beyond its largest.

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    save(param(0u) + i32(thread), f32(thread) * 300.3);
}

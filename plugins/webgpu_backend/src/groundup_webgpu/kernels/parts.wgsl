// The sum of what workgroups left in scratch memory, by one workgroup.

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var share = 0.0;
    for (var i = i32(thread); i < $parts; i += 256) {
        share += load0(param(1u) + i);
    }
    let sum = total(share, thread);
    if (thread == 0u) {
        save(param(0u), $value);
    }
}

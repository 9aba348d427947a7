// The sum or the mean of the losses that a first dispatch left in scratch memory, by one workgroup.

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var loss = 0.0;
    var count = 0.0;
    for (var i = i32(thread); i < $rows; i += 256) {
        loss += load0(param(1u) + i);
        count += load0(param(1u) + $rows + i);
    }
    let sum = total(loss, thread);
    let counted = total(count, thread);
    if (thread == 0u) {
        save(param(0u), $value);
    }
}

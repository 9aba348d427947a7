// How many targets count, as a number in scratch memory, by one workgroup.

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var count = 0.0;
    for (var i = i32(thread); i < $rows; i += 256) {
$index
        count += select(1.0, 0.0, load0(at0) == $ignored);
    }
    let counted = total(count, thread);
    if (thread == 0u) {
        save(param(0u), counted);
    }
}

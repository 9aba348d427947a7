// The root of the sum of all numbers in scratch memory, by one workgroup.

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var i = i32(thread); i < $count; i += 256) {
        sum += load0(param(1u) + i);
    }
    let all = total(sum, thread);
    if (thread == 0u) {
        save(param(0u), sqrt(all));
    }
}

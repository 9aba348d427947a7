// The losses of rows whose logarithms of probabilities are known, added up by one workgroup.

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var loss = 0.0;
    var count = 0.0;
    for (var i = i32(thread); i < $rows; i += 256) {
$index
        if (valid) {
            loss -= picked;
            count += 1.0;
        }
    }
    let sum = total(loss, thread);
    let counted = total(count, thread);
    if (thread == 0u) {
        save(param(0u), $value);
    }
}

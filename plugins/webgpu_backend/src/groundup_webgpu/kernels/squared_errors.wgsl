// The sum of the squared differences of two tensors, a part of it by each workgroup.

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let begin = i32(group.x) * $piece;
    let end = min(begin + $piece, $size);
    var share = 0.0;
    for (var i = begin + i32(thread); i < end; i += 256) {
        let error = load0(param(1u) + i) - load1(param(2u) + i);
        share += error * error;
    }
    let sum = total(share, thread);
    if (thread == 0u) {
        save(param(0u) + i32(group.x), $value);
    }
}

// (softmax - onehot) times what the row's loss gets, plus softmax times what its logsumexp gets.

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = i32(thread % LANES);
    let i = i32((group.y * groups.x + group.x) * (256u / LANES) + thread / LANES);
    if (i >= $rows) {
        return;
    }
$index
    let chosen = load1(at1);
    let valid = chosen != $ignored;
    let known = valid && chosen >= 0 && chosen < $classes;
    let spare = load4(at4);
    let factor = select(0.0, load3(at3)$mean, valid);
    let counts = valid || spare != 0.0 || is_nan(spare);
    let shift = load2(at2);
    for (var c = lane; c < $units; c += i32(LANES)) {
        let softmax = exp_of(load0(at0 + c * $step0) - shift);
        let whole = select(Unit(), softmax * (factor + spare), counts);
        save(param(0u) / WIDTH + i * $units + c, whole - $hot);
    }
}

// Per query what its scores are shifted by, its logsumexp, and sum(grad out) less the logsumexp's
// gradient: two matrices in scratch memory, behind the random state. Scratch memory holds bits.

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = thread % LANES;
    let number = i32((group.y * groups.x + group.x) * (256u / LANES) + thread / LANES);
    let live = number < $rows;
    let i = min(number, $rows - 1);
$index
    var share = Unit();
    for (var c = i32(lane); c < $units; c += i32(LANES)) {
        share += load0(at0 + c * $step0) * load1(at1 + c * $step1);
    }
    let delta = total(sum_of(share), thread) - load3(at3);
    if (live && lane == 0u) {
        let shift = load2(at2);
        let empty = is_infinite(shift) && shift < 0.0;
        save(param(0u) + 4 + i, bitcast<i32>(select(shift, 0.0, empty)));
        save(param(0u) + 4 + $rows + i, bitcast<i32>(delta));
    }
$state
}

// Pairs of a row's halves turned by an angle that grows with the position (Su et al., 2021).

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = i32((group.y * groups.x + group.x) * 256u + thread);
    if (i >= $size) {
        return;
    }
$index
    let pair = f32(u32(i) % u32($half));
    let angle = f32(load1(at1)) * exp_f32(pair * $slope);
    let c = cos(angle);
    let s = sin(angle) * $sign;
    let first = load0(at0);
    let second = load0(at0 + $half * $step0);
    save(place, first * c - second * s);
    save(place + $half * $step, second * c + first * s);
}

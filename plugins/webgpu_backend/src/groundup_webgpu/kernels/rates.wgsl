// The numbers of one step that all parameters share: lr, the gradients' scale, bias corrections.

@compute @workgroup_size(1)
fn main() {
    let step = f32(load1(param(2u)));
    save(param(0u), f32(load0(param(1u))));
    save(param(0u) + 1, f32(load2(param(3u))));
    save(param(0u) + 2, step);
    save(param(0u) + 3, -expm1_f32(step * $log1));
    save(param(0u) + 4, -expm1_f32(step * $log2));
}

// A row is read four numbers at a time.

alias Unit = vec4<f32>;
const WIDTH = 4;

fn sum_of(x: Unit) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

fn largest_of(x: Unit) -> f32 {
    return maximum_f32(maximum_f32(x.x, x.y), maximum_f32(x.z, x.w));
}

// exp of NaN is NaN, which not all drivers know.
fn exp_of(x: Unit) -> Unit {
    let size = bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu);
    return select(exp(x), x, size > vec4<u32>(0x7f800000u));
}

// A row is read four numbers at a time.

alias Unit = vec4<f32>;
const WIDTH = 4;

fn sum_of(x: Unit) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

fn largest_of(x: Unit) -> f32 {
    return maximum_f32(maximum_f32(x.x, x.y), maximum_f32(x.z, x.w));
}

// What categorical adds to element `c` of row `i`: -ln(-ln u) of a uniform u (Gumbel, 1954).

fn noise(i: i32, c: i32) -> f32 {
    let element = u32(i * $width + c);
    let at = param(2u);
    let step = $state_step;
    let seed = vec2<u32>(bitcast<u32>(load1(at)), bitcast<u32>(load1(at + step)));
    let draw = vec2<u32>(bitcast<u32>(load1(at + 2 * step)), bitcast<u32>(load1(at + 3 * step)));
    let words = philox(element / 4u, seed, draw);
    let u = (f32(words[element % 4u] >> 9u) + 0.5) * 1.1920928955078125e-7;
    return -log_f32(-log_f32(u));
}

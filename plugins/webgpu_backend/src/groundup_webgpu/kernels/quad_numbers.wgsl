fn number$n(line: i32, i: i32) -> f32 {
    return select(0.0, load$n(line + min(i, $size - 1) * $step), i < $size);
}

fn quad$n(line: i32, quad: i32) -> vec4<f32> {
    let i = quad * 4;
    return vec4<f32>(
        number$n(line, i), number$n(line, i + 1), number$n(line, i + 2), number$n(line, i + 3)
    );
}


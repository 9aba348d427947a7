fn quad$n(line: i32, quad: i32) -> vec4<f32> {
    return load$n(line + quad);
}


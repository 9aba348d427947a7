fn put$n(line: i32, quad: i32, value: vec4<f32>) {
    if (quad < $quads) {
        save$n(param(${place}u) / 4 + line * $quads + quad, value);
    }
}


fn put$n(line: i32, quad: i32, value: vec4<f32>) {
    let at = param(${place}u) + line * $size + quad * 4;
    // repeat e 4
    if (quad * 4 + {e} < $size) {
        save$n(at + {e}, value[{e}]);
    }
    // end
}


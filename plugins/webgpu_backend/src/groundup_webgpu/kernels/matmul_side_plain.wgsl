// Four lines from `line` on at four terms from k on, read along the lines.
fn ${name}_side(at: i32, line: i32, k: i32, stop: i32) -> mat4x4<f32> {
    if (k >= stop) {
        return mat4x4<f32>();
    }
    let place = (at + k) >> 2u;
    let last = $lines - 1;
    return transpose(mat4x4<f32>(
        load$n(place + min(line, last) * $across), load$n(place + min(line + 1, last) * $across),
        load$n(place + min(line + 2, last) * $across), load$n(place + min(line + 3, last) * $across),
    ));
}


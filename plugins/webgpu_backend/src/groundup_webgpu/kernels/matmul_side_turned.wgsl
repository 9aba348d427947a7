// Four lines from `line` on at four terms from k on, read across the lines.
fn ${name}_side(at: i32, line: i32, k: i32, stop: i32) -> mat4x4<f32> {
    if (k >= stop) {
        return mat4x4<f32>();
    }
    let place = ((at + min(line, $lines - 4)) >> 2u) + k * $along;
    return mat4x4<f32>(
        load$n(place), load$n(place + $along), load$n(place + 2 * $along), load$n(place + 3 * $along),
    );
}


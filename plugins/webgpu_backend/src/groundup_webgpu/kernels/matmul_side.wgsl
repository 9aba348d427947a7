// Four lines from `line` on at term k; the last line stands for those beyond it.
fn ${name}_column(at: i32, line: i32, k: i32, stop: i32) -> vec4<f32> {
    if (k >= stop) {
        return vec4<f32>();
    }
    let place = at + k * $along;
    let last = $lines - 1;
    return vec4<f32>(
        load$n(place + min(line, last) * $across), load$n(place + min(line + 1, last) * $across),
        load$n(place + min(line + 2, last) * $across), load$n(place + min(line + 3, last) * $across),
    );
}

fn ${name}_side(at: i32, line: i32, k: i32, stop: i32) -> mat4x4<f32> {
    return mat4x4<f32>(
        ${name}_column(at, line, k, stop), ${name}_column(at, line, k + 1, stop),
        ${name}_column(at, line, k + 2, stop), ${name}_column(at, line, k + 3, stop),
    );
}


// Which quad of lines and which quad of terms block `number` is: neighbouring threads have
// neighbouring lines, which lie side by side.
fn ${name}_block(number: i32) -> vec2<i32> {
    return vec2<i32>(number % $quads, number / $quads);
}


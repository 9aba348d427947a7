// Which quad of lines and which quad of terms block `number` is: eight neighbouring threads fill
// different banks, and 32 read whole stretches of their lines, which lie along the summed axis.
fn ${name}_block(number: i32) -> vec2<i32> {
    return vec2<i32>(number % 8 + number / (8 * $deep) * 8, number / 8 % $deep);
}


// Whether the window at (top, left) of a plane has its largest number first at element `tap`: where
// it is `wanted` or NaN. Around the plane is -infinity.

fn is_hit(begin: i32, y: i32, x: i32, wanted: f32) -> bool {
    let inside = y >= 0 && y < $height && x >= 0 && x < $width;
    let at = begin + y * $row_step + x * $column_step;
    let found = select(-infinity(), load0(select(0, at, inside)), inside);
    return is_nan(found) || (found == wanted && !is_nan(wanted));
}

fn is_first(begin: i32, top: i32, left: i32, tap: i32, wanted: f32) -> bool {
    for (var n = 0; n < tap; n += 1) {
        if (is_hit(begin, top + n / $wide, left + n % $wide, wanted)) {
            return false;
        }
    }
    return is_hit(begin, top + tap / $wide, left + tap % $wide, wanted);
}

// The largest number or the mean of each window, a thread each.

fn plane(i: i32) -> i32 {
$plane
    return at0;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = i32((group.y * groups.x + group.x) * 256u + thread);
    if (i >= $size) {
        return;
    }
    let begin = plane(i / ($rows * $columns));
    let top = i / $columns % $rows * $down - $above;
    let left = i % $columns * $right - $before;
    var total = $start;
    for (var y = top; y < top + $tall; y += 1) {
        for (var x = left; x < left + $wide; x += 1) {
            let inside = y >= 0 && y < $height && x >= 0 && x < $width;
            let at = begin + y * $row_step + x * $column_step;
            let found = select($start, load0(select(0, at, inside)), inside);
            total = $joined;
        }
    }
    save(param(0u) + i, $value);
}

// What each element gets from the windows that it lies in, a thread each, always in one order.

$functions

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = i32((group.y * groups.x + group.x) * 256u + thread);
    if (number >= $size) {
        return;
    }
    let i = number / ($height * $width);
$planes
    let y = number / $width % $height + $above;
    let x = number % $width + $before;
    var total = 0.0;
    for (var v = max(0, (y - $tall + $down) / $down); v <= min($rows - 1, y / $down); v += 1) {
        let r = y - v * $down;
        if (r >= $tall) {
            continue;
        }
        for (var u = max(0, (x - $wide + $right) / $right); u <= min($columns - 1, x / $right); u += 1) {
            let s = x - u * $right;
            if (s < $wide) {
                total += $share;
            }
        }
    }
    save(param(0u) + number, total);
}

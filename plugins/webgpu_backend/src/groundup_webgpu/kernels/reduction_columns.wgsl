// Results beside each other, made of elements beside each other, as sums over the rows of a matrix:
// $beside neighbouring threads read a stretch of memory together, and the other threads of the
// workgroup do so further down; then a tree. A workgroup goes over one piece of the elements.

var<workgroup> partial: array<$type, 256>;

fn joined(a: $type, b: $type) -> $type {
    return $joined;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group.y * groups.x + group.x;
    let unit = i32(number % u32($across) * ${beside}u + thread % ${beside}u);
    let piece = i32(number / u32($across));
    if (piece >= $pieces) {
        return;
    }
    let i = min(unit, $units - 1);
$index
    let first = at0;
    var total = $start;
    let begin = piece * $piece + i32(thread / ${beside}u);
    for (var j = begin; j < min((piece + 1) * $piece, $count); j += 256 / $beside) {
$inner
        total = joined(total, $element);
    }
    partial[thread] = total;
    workgroupBarrier();
    for (var step = 128u; step >= ${beside}u; step /= 2u) {
        if (thread < step) {
            partial[thread] = joined(partial[thread], partial[thread + step]);
        }
        workgroupBarrier();
    }
    if (thread < ${beside}u && unit < $units) {
        save(param(0u) / $width + piece * $units + unit, partial[thread]);
    }
}

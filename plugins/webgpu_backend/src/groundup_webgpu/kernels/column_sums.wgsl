// Of two matrices of $pieces rows that lie one behind the other in scratch memory, the sums of
// columns. Sixteen threads share one column; the order of additions is fixed.

var<workgroup> first: array<f32, 256>;
var<workgroup> second: array<f32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let column = i32((group.y * groups.x + group.x) * 16u + thread % 16u);
    let width = $width;
    let from_place = $begin + min(column, width - 1);
    let gap = $pieces * width;
    var a = 0.0;
    var b = 0.0;
    for (var piece = i32(thread / 16u); piece < $pieces; piece += 16) {
        a += load0(from_place + piece * width);
        b += load0(from_place + gap + piece * width);
    }
    first[thread] = a;
    second[thread] = b;
    workgroupBarrier();
    for (var step = 128u; step >= 16u; step /= 2u) {
        if (thread < step) {
            first[thread] += first[thread + step];
            second[thread] += second[thread + step];
        }
        workgroupBarrier();
    }
    if (thread < 16u && column < width) {
        save(param(0u) + column, first[thread]);
$more
    }
}

// One workgroup per output element: threads stride over the reduced elements, then a tree.

var<workgroup> partial: array<$type, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = i32(group.y * groups.x + group.x);
    let live = i < $size;
$index
    let first = at0;
    let count = $count;
    var total = $start;
    if (live) {
        for (var j = i32(lane); j < count; j += 64) {
$inner
            total = $combine_value;
        }
    }
    partial[lane] = total;
    workgroupBarrier();
    for (var step = 32u; step > 0u; step = step / 2u) {
        if (lane < step) {
            let a = partial[lane];
            let b = partial[lane + step];
            partial[lane] = $combine;
        }
        workgroupBarrier();
    }
    if (live && lane == 0u) {
        out[$place] = partial[0];
    }
}

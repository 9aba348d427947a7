// Running sums of rows, a workgroup each: threads add up four neighbours, their sums are added by
// doubling the distance (Hillis and Steele, 1986), and what came before is carried on.

var<workgroup> sums: array<$type, 256>;

fn element(at: i32) -> $type {
    return $type(load0(at));
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = i32(group.y * groups.x + group.x);
    if (i >= $rows) {
        return;
    }
$index
    var carried = $type();
    for (var start = 0; start < $width; start += 1024) {
        let first = start + 4 * i32(thread);
        var sum = $type();
        // repeat k 4
        if (first + {k} < $width) {
            sum += element(at0 + (first + {k}) * $step0);
        }
        let sum{k} = sum;
        // end
        sums[thread] = sum;
        workgroupBarrier();
        for (var near = 1u; near < 256u; near *= 2u) {
            var before = $type();
            if (thread >= near) {
                before = sums[thread - near];
            }
            workgroupBarrier();
            sums[thread] += before;
            workgroupBarrier();
        }
        let before = carried + select($type(), sums[max(thread, 1u) - 1u], thread > 0u);
        // repeat k 4
        if (first + {k} < $width) {
            save(place + (first + {k}) * $step, before + sum{k});
        }
        // end
        carried += sums[255];
        workgroupBarrier();
    }
}

// Each of many lines times $few others: its threads go over it together, and the others lie in
// caches by then.

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = thread % LANES;
    let number = i32((group.y * groups.x + group.x) * (256u / LANES) + thread / LANES);
    let i = min(number, $rows - 1);
$index
    // repeat f ${few}
    var sum{f} = Unit();
    // end
    for (var c = i32(lane); c < $units; c += i32(LANES)) {
        let factor = load1(at1 + c);
        // repeat f ${few}
        sum{f} += factor * load0(at0 + {f} * $few_line + c * $few_step);
        // end
    }
    // repeat f ${few}
    let total{f} = total(sum_of(sum{f}), thread);
    // end
    if (number < $rows && lane == 0u) {
        // repeat f ${few}
        save(place + {f} * $beside, total{f});
        // end
    }
}

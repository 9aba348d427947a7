// scatter.wgsl where all lines have the same indices, as the gradient of an embedding: a workgroup
// reads them together, 256 at a time, for 64 lines, or vectors of lines, and a range of the places.

var<workgroup> chosen: array<vec4<i32>, 64>;

fn chosen_at(j: i32) -> i32 {
    return select(-1, load0(param(1u) + min(j, $stop - 1) * $index_step), j < $stop);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = group.y * groups.x + group.x;
    let across = (u32($lines) + 63u) / 64u;
    let lane = i32(number / across);
    if (lane >= $lanes) {
        return;
    }
    let line = i32(number % across * 64u + thread);
    let first = lane * $span;
    // None for a line beyond the last. An index below the range is a large number without a sign.
    let own = select(0u, u32(min($span, $bound - first)), line < $lines);
    let i = min(line, $lines - 1);
$index
    for (var begin = $start; begin < $stop; begin += 256) {
        let j = begin + i32(thread) * 4;
        workgroupBarrier();
        chosen[thread]
            = vec4<i32>(chosen_at(j), chosen_at(j + 1), chosen_at(j + 2), chosen_at(j + 3));
        workgroupBarrier();
        for (var four = 0; four < 64; four += 1) {
            let places = chosen[four];
            // repeat k 4
            if (u32(places[{k}] - first) < own) {
                let goal = (place + places[{k}] * $step) / $width;
                let added = load1((at1 + (begin + four * 4 + {k}) * $source_step) / $width);
                save(goal, out[goal] + added);
            }
            // end
        }
    }
}

// scatter.wgsl where all lines have the same indices, as the gradient of an embedding: a workgroup
// reads them together, 256 at a time, for 64 lines and every `lanes`-th of the places.

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
    let own = number / across;
    if (own >= u32($lanes)) {
        return;
    }
    let line = i32(number % across * 64u + thread);
    let live = line < $lines;
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
            let place{k} = places[{k}];
            if (place{k} >= 0 && place{k} < $bound && u32(place{k}) % u32($lanes) == own && live) {
                let goal = place + place{k} * $step;
                save(goal, out[goal] + load1(at1 + (begin + four * 4 + {k}) * $source_step));
            }
            // end
        }
    }
}

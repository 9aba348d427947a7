// dk and dv of 4 * GROUPS keys, over all queries that see them and all heads that share them. The
// memory of what is gone over is too small for q and grad, so q is read twice.

@compute @workgroup_size($threads)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let number = i32(group.y * groups.x + group.x);
    let tiles = $tiles;
    let heads = $heads / $share;
    if (number >= tiles * heads * $batches) {
        return;
    }
    let thread = i32(index);
    let own = thread / COLUMNS;
    let lane = thread % COLUMNS;
    // repeat j $each
    let place{j} = lane + COLUMNS * {j};
    // end
    // repeat c $d_each
    let column_d{c} = min(lane + COLUMNS * {c}, $d_quads - 1);
    // end
    // repeat c $e_each
    let column_e{c} = min(lane + COLUMNS * {c}, $e_quads - 1);
    // end
    let batch = number / tiles / heads;
    let shared_head = number / tiles % heads;
    let first = number % tiles * LINES;
$beginnings
    fill1(at1, first, $keys, LINES, 1.0, thread);
    fill2(at2, first, $keys, LINES, 1.0, thread);
    // repeat i 4
    let key{i} = first + own + {i} * GROUPS;
    // repeat c $d_each
    var k{c}_{i} = vec4<f32>();
    // end
    // repeat c $e_each
    var v{c}_{i} = vec4<f32>();
    // end
    // end
    for (var turn = 0; turn < $share; turn += 1) {
        let own_head = shared_head * $share + turn;
        let head = Head(batch, own_head, batch * $heads + own_head);
$query_beginnings
        for (var start = $begin; start < $queries; start += WIDE) {
            workgroupBarrier();
            fill0(at0, start, $queries, WIDE, $scale, thread);
            workgroupBarrier();
            // repeat j $each
            let query{j} = start + lane + COLUMNS * {j};
            let row{j} = head.number * $queries + min(query{j}, $queries - 1);
            var s{j} = vec4<f32>();
            var t{j} = vec4<f32>();
            // end
            for (var d = 0; d < $d_quads; d += 1) {
                let turned = transpose(mat4x4<f32>(
                    $line_d[own][d], $line_d[own + GROUPS][d],
                    $line_d[own + 2 * GROUPS][d], $line_d[own + 3 * GROUPS][d]
                ));
                // repeat j $each
                let other{j} = $wide_d[place{j} / STACK][place{j} % STACK][d];
                s{j} += turned[0] * other{j}.x;
                s{j} += turned[1] * other{j}.y;
                s{j} += turned[2] * other{j}.z;
                s{j} += turned[3] * other{j}.w;
                // end
            }
            workgroupBarrier();
            fill3(at3, start, $queries, WIDE, 1.0, thread);
            // repeat j $each
            s{j} = vec4<f32>(
                seen(s{j}.x, query{j}, key0, head), seen(s{j}.y, query{j}, key1, head),
                seen(s{j}.z, query{j}, key2, head), seen(s{j}.w, query{j}, key3, head)
            );
            let p{j} = select(power(s{j} - shift_of(row{j})), vec4<f32>(), s{j} == vec4<f32>(NEVER));
$keep
            scores[place{j} / STACK][place{j} % STACK][own] = p{j}$dropped;
            // end
            workgroupBarrier();
            for (var d = 0; d < $e_quads; d += 1) {
                let turned = transpose(mat4x4<f32>(
                    $line_e[own][d], $line_e[own + GROUPS][d],
                    $line_e[own + 2 * GROUPS][d], $line_e[own + 3 * GROUPS][d]
                ));
                // repeat j $each
                let other{j} = $wide_e[place{j} / STACK][place{j} % STACK][d];
                t{j} += turned[0] * other{j}.x;
                t{j} += turned[1] * other{j}.y;
                t{j} += turned[2] * other{j}.z;
                t{j} += turned[3] * other{j}.w;
                // end
            }
            for (var n = 0; n < WIDE / STACK; n += 1) {
                // repeat m $stack
                let p{m} = scores[n][{m}][own];
                // repeat c $e_each
                let g{m}_{c} = $wide_e[n][{m}][column_e{c}];
                // repeat i 4
                v{c}_{i} += g{m}_{c} * p{m}[{i}];
                // end
                // end
                // end
            }
            workgroupBarrier();
            if ($together) {
                fill0(at0, start, $queries, WIDE, $scale, thread);
            }
            // repeat j $each
            let d{j} = p{j} * (t{j}$dropped - delta_of(row{j}));
            scores[place{j} / STACK][place{j} % STACK][own]
                = select(d{j}, vec4<f32>(), s{j} == vec4<f32>(NEVER));
            // end
            workgroupBarrier();
            for (var n = 0; n < WIDE / STACK; n += 1) {
                // repeat m $stack
                let p{m} = scores[n][{m}][own];
                // repeat c $d_each
                let q{m}_{c} = $wide_d[n][{m}][column_d{c}];
                // repeat i 4
                k{c}_{i} += q{m}_{c} * p{m}[{i}];
                // end
                // end
                // end
            }
        }
    }
    // repeat i 4
    if (key{i} < $keys) {
        let line = (batch * heads + shared_head) * $keys + key{i};
        // repeat c $d_each
        put(line, lane + COLUMNS * {c}, k{c}_{i});
        // end
        // repeat c $e_each
        put1(line, lane + COLUMNS * {c}, v{c}_{i});
        // end
    }
    // end
}

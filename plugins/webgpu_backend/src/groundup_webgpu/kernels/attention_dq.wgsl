// dq of 4 * GROUPS queries: probabilities from scores and logsumexps, the scores' gradients, times
// k.

@compute @workgroup_size($threads)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let number = i32(group.y * groups.x + group.x);
    let tiles = $tiles;
    if (number >= tiles * $heads * $batches) {
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
    let head = Head(number / tiles / $heads, number / tiles % $heads, number / tiles);
    let first = (tiles - 1 - number % tiles) * LINES;
    let shared_head = head.head / $share;
$beginnings
    fill0(at0, first, $queries, LINES, $scale, thread);
    fill3(at3, first, $queries, LINES, 1.0, thread);
    var shift = vec4<f32>();
    var delta = vec4<f32>();
    // repeat i 4
    let query{i} = first + own + {i} * GROUPS;
    let row{i} = head.number * $queries + min(query{i}, $queries - 1);
    shift[{i}] = shift_of(row{i});
    delta[{i}] = delta_of(row{i});
    // end
    // repeat c $d_each
    // repeat i 4
    var o{c}_{i} = vec4<f32>();
    // end
    // end
    let end = $end;
    for (var start = 0; start < end; start += WIDE) {
        workgroupBarrier();
        fill2(at2, start, $keys, WIDE, 1.0, thread);
        workgroupBarrier();
        // repeat j $each
        var t{j} = vec4<f32>();
        var s{j} = vec4<f32>();
        // end
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
        workgroupBarrier();
        fill1(at1, start, $keys, WIDE, 1.0, thread);
        workgroupBarrier();
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
        // repeat j $each
        let key{j} = start + lane + COLUMNS * {j};
        s{j} = vec4<f32>(
            seen(s{j}.x, query0, key{j}, head), seen(s{j}.y, query1, key{j}, head),
            seen(s{j}.z, query2, key{j}, head), seen(s{j}.w, query3, key{j}, head)
        );
        let d{j} = power(s{j} - shift) * (t{j}$dropped - delta);
        scores[place{j} / STACK][place{j} % STACK][own]
            = select(d{j}, vec4<f32>(), s{j} == vec4<f32>(NEVER));
        // end
        workgroupBarrier();
        for (var k = 0; k < WIDE / STACK; k += 1) {
            // repeat m $stack
            let p{m} = scores[k][{m}][own];
            // repeat c $d_each
            let k{m}_{c} = $wide_d[k][{m}][column_d{c}];
            // repeat i 4
            o{c}_{i} += k{m}_{c} * p{m}[{i}];
            // end
            // end
            // end
        }
    }
    // repeat i 4
    if (query{i} < $queries) {
        let line = head.number * $queries + query{i};
        // repeat c $d_each
        put(line, lane + COLUMNS * {c}, o{c}_{i} * $scale);
        // end
    }
    // end
}

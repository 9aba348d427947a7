// softmax(q k^T * scale + mask) v of 4 * GROUPS queries, by online softmax (Milakov and Gimelshein,
// 2018; Dao et al., "FlashAttention", 2022): no score leaves the workgroup.

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
    // repeat c $e_each
    let column_e{c} = min(lane + COLUMNS * {c}, $e_quads - 1);
    // end
    let head = Head(number / tiles / $heads, number / tiles % $heads, number / tiles);
    let first = (tiles - 1 - number % tiles) * LINES;
    let shared_head = head.head / $share;
$beginnings
$prepare
    fill0(at0, first, $queries, LINES, $scale, thread);
    var top = vec4<f32>(NEVER);
    var sum = vec4<f32>();
    // repeat c $e_each
    // repeat i 4
    var o{c}_{i} = vec4<f32>();
    // end
    // end
    let end = $end;
    for (var start = 0; start < end; start += WIDE) {
        workgroupBarrier();
        fill1(at1, start, $keys, WIDE, 1.0, thread);
        workgroupBarrier();
        // repeat j $each
        var s{j} = vec4<f32>();
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
        var next = top;
        // repeat j $each
        let key{j} = start + lane + COLUMNS * {j};
        s{j} = vec4<f32>(
            seen(s{j}.x, first + own, key{j}, head),
            seen(s{j}.y, first + own + GROUPS, key{j}, head),
            seen(s{j}.z, first + own + 2 * GROUPS, key{j}, head),
            seen(s{j}.w, first + own + 3 * GROUPS, key{j}, head)
        );
        next = max(next, s{j});
        // end
        shares[lane][own] = next;
        workgroupBarrier();
        fill2(at2, start, $keys, WIDE, 1.0, thread);
        // repeat x $columns
        next = max(next, shares[{x}][own]);
        // end
        let shrink = power(top - next);
        top = next;
        sum *= shrink;
        // repeat j $each
        s{j} = select(power(s{j} - top), vec4<f32>(), s{j} == vec4<f32>(NEVER));
        sum += s{j};
        scores[place{j} / STACK][place{j} % STACK][own] = s{j}$dropped;
        // end
        workgroupBarrier();
        // repeat c $e_each
        // repeat i 4
        o{c}_{i} *= shrink[{i}];
        // end
        // end
        for (var k = 0; k < WIDE / STACK; k += 1) {
            // repeat m $stack
            let p{m} = scores[k][{m}][own];
            // repeat c $e_each
            let v{m}_{c} = $wide_e[k][{m}][column_e{c}];
            // repeat i 4
            o{c}_{i} += v{m}_{c} * p{m}[{i}];
            // end
            // end
            // end
        }
    }
    workgroupBarrier();
    shares[lane][own] = sum;
    workgroupBarrier();
    sum = vec4<f32>();
    // repeat x $columns
    sum += shares[{x}][own];
    // end
    // repeat i 4
    let query{i} = first + own + {i} * GROUPS;
    if (query{i} < $queries) {
        let line = head.number * $queries + query{i};
        let share{i} = 1.0 / select(sum[{i}], 1.0, sum[{i}] == 0.0);
        // repeat c $e_each
        put(line, lane + COLUMNS * {c}, o{c}_{i} * share{i});
        // end
$logsumexp
    }
    // end
}

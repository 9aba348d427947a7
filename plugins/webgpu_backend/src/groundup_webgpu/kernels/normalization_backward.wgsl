// dx of rows, and this workgroup's share of dweight and dbias. A thread keeps its columns of all
// rows that its workgroup has, in named registers; those go to scratch memory and are added up in
// order by column_sums.wgsl.

@compute @workgroup_size($threads)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = i32(thread);
    let piece = i32(group.y * groups.x + group.x);
    if (piece >= $pieces) {
        return;
    }
    // repeat k $count
    let c{k} = lane + {k} * i32(LANES);
    let inside{k} = c{k} < $units;
    let place{k} = select(0, c{k}, inside{k});
    let w{k} = load1(param(3u) / WIDTH + place{k} * $weight_step);
    var dweight{k} = Unit();
    var dbias{k} = Unit();
    // end
    for (var turn = 0; turn < $turns; turn += 1) {
        let number = piece * $turns + turn;
        let live = number < $rows;
        let i = min(number, $rows - 1);
$index
        // repeat k $count
        let x{k} = select(Unit(), load0(at0 + place{k} * $step0), inside{k});
        let dy{k} = select(Unit(), load2(at2 + place{k} * $step2), inside{k} && live);
        // end
        var share = Unit();
        // repeat k $count
        share += x{k};
        // end
        let mean = $mean;
        share = Unit();
        // repeat k $count
        let centred{k} = select(Unit(), x{k} - mean, inside{k});
        share += centred{k} * centred{k};
        // end
        let scale = inverseSqrt(total(sum_of(share), thread) * $share + $eps);
        share = Unit();
        var other = Unit();
        // repeat k $count
        let y{k} = centred{k} * scale;
        let g{k} = dy{k} * w{k};
        dweight{k} += dy{k} * y{k};
        dbias{k} += dy{k};
        share += g{k};
        other += g{k} * y{k};
        // end
        let slope = total(sum_of(other), thread) * $share;
        let level = $level;
        // repeat k $count
        if (inside{k} && live) {
            save(param(0u) / WIDTH + i * $units + c{k}, (g{k} - level - y{k} * slope) * scale$more);
        }
        // end
    }
    // repeat k $count
    if (inside{k}) {
        save1(param(1u) / WIDTH + piece * $units + c{k}, dweight{k});
        save1(param(1u) / WIDTH + ($pieces + piece) * $units + c{k}, dbias{k});
    }
    // end
}

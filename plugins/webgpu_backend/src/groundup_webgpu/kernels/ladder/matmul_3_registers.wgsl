// Matrix product, rung 3: blocks of registers. A workgroup makes 64 x 64 numbers, each of its 256
// invocations 4 x 4 of them: rows 16 apart and columns 16 apart, so that neighbours still read
// neighbours. 8 loads from workgroup memory serve 16 multiply-adds, a half for each in place of
// two.
//
// The sums have a name each, made by repetition: an array that is indexed would lie in memory.
// Storage is read 4 times less often than before. What limits now is loads from workgroup memory,
// one number at a time: half a load for a multiply-add still takes twice the time of the
// multiply-add.

var<workgroup> left: array<f32, 1056>;  // turned: 16 lines of 64 rows and 2 unused numbers
var<workgroup> right: array<f32, 1024>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = $rows;
    let inner = $inner;
    let columns = $columns;
    let tile = i32(group.y * groups.x + group.x);
    let top = tile / $across * 64;
    let side = tile % $across * 64;
    let thread = i32(lane);
    let down = thread / 16;
    let along = thread % 16;
    // repeat i 4
    // repeat j 4
    var s{i}{j} = 0.0;
    // end
    // end
    for (var first = 0; first < inner; first += 16) {
        for (var n = thread; n < 1024; n += 256) {
            let row = top + n / 16;
            let k = first + n % 16;
            var a = 0.0;
            if (row < rows && k < inner) {
                a = load0(param(1u) + row * inner + k);
            }
            left[n % 16 * 66 + n / 16] = a;
            let line = first + n / 64;
            let column = side + n % 64;
            var b = 0.0;
            if (line < inner && column < columns) {
                b = load1(param(2u) + line * columns + column);
            }
            right[n] = b;
        }
        workgroupBarrier();
        for (var k = 0; k < 16; k += 1) {
            // repeat i 4
            let a{i} = left[k * 66 + down + 16 * {i}];
            let b{i} = right[k * 64 + along + 16 * {i}];
            // end
            // repeat i 4
            // repeat j 4
            s{i}{j} += a{i} * b{j};
            // end
            // end
        }
        workgroupBarrier();
    }
    // repeat i 4
    // repeat j 4
    if (top + down + 16 * {i} < rows && side + along + 16 * {j} < columns) {
        let row = top + down + 16 * {i};
        save(param(0u) + row * columns + side + along + 16 * {j}, s{i}{j});
    }
    // end
    // end
}

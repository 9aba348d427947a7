// Matrix product, rung 4: vectors. Storage and workgroup memory hold vec4: a load brings four
// neighbours, of a row of x along the summed axis, of a row of y along the columns. For 4 turns of
// the sum an invocation loads 4 vectors of x and 4 of y, 8 loads for 64 multiply-adds, which are on
// vectors too: a column of sums is four numbers of x times one vector of y.
//
// Places count vectors, so inner and columns must be multiples of four. Loads from workgroup memory
// are a quarter of rung 3's. What is left: while a tile comes in, nobody multiplies.

var<workgroup> left: array<vec4<f32>, 256>;  // 64 rows of 4 vectors
var<workgroup> right: array<vec4<f32>, 256>;  // 16 rows of 16 vectors

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = $rows;
    let packs = $inner / 4;
    let width = $columns / 4;
    let tile = i32(group.y * groups.x + group.x);
    let top = tile / $across * 64;
    let side = tile % $across * 16;
    let thread = i32(lane);
    let down = thread / 16;
    let along = thread % 16;
    let x = param(1u) / 4 + (top + thread / 4) * packs + thread % 4;
    let y = param(2u) / 4 + down * width + side + along;
    // repeat i 4
    var s{i} = vec4<f32>();
    // end
    for (var first = 0; first < packs; first += 4) {
        var a = vec4<f32>();
        if (top + thread / 4 < rows && first + thread % 4 < packs) {
            a = load0(x + first);
        }
        var b = vec4<f32>();
        if (first * 4 + down < packs * 4 && side + along < width) {
            b = load1(y + first * 4 * width);
        }
        left[thread] = a;
        right[thread] = b;
        workgroupBarrier();
        for (var k = 0; k < 4; k += 1) {
            // repeat i 4
            let a{i} = left[(down * 4 + {i}) * 4 + k];
            let b{i} = right[(k * 4 + {i}) * 16 + along];
            // end
            // repeat i 4
            s{i} += a{i}.x * b0 + a{i}.y * b1 + a{i}.z * b2 + a{i}.w * b3;
            // end
        }
        workgroupBarrier();
    }
    // repeat i 4
    if (top + down * 4 + {i} < rows && side + along < width) {
        save(param(0u) / 4 + (top + down * 4 + {i}) * width + side + along, s{i});
    }
    // end
}

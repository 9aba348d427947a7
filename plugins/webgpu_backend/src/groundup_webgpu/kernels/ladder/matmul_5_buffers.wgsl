// Matrix product, rung 5: two buffers. The loads of the next tile start before this one is
// multiplied, and end in registers; afterwards they go to the other half of workgroup memory.
// Nobody waits for storage while there is something to multiply, and one barrier for a tile is
// enough: who writes the other half knows that all have left it, since they met at the barrier
// before.
//
// Two halves of 8 KB are all of the 16 KB that every adapter has. Larger blocks of registers, 8 x 8
// for an invocation, would halve the loads again: rungs 6 and 7, ../matmul_blocks.wgsl and
// ../matmul_tiles.wgsl, have them, without workgroup memory and with it.

var<workgroup> left: array<vec4<f32>, 512>;
var<workgroup> right: array<vec4<f32>, 512>;

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
    var half = 0;
    // Turn by turn: bring the tile at `first`, multiply the one before it, put the new one away.
    for (var first = 0; first < packs + 4; first += 4) {
        var a = vec4<f32>();
        if (top + thread / 4 < rows && first + thread % 4 < packs) {
            a = load0(x + first);
        }
        var b = vec4<f32>();
        if (first * 4 + down < packs * 4 && side + along < width) {
            b = load1(y + first * 4 * width);
        }
        if (first > 0) {
            for (var k = 0; k < 4; k += 1) {
                // repeat i 4
                let a{i} = left[half + (down * 4 + {i}) * 4 + k];
                let b{i} = right[half + (k * 4 + {i}) * 16 + along];
                // end
                // repeat i 4
                s{i} += a{i}.x * b0 + a{i}.y * b1 + a{i}.z * b2 + a{i}.w * b3;
                // end
            }
        }
        half = 256 - half;
        left[half + thread] = a;
        right[half + thread] = b;
        workgroupBarrier();
    }
    // repeat i 4
    if (top + down * 4 + {i} < rows && side + along < width) {
        save(param(0u) / 4 + (top + down * 4 + {i}) * width + side + along, s{i});
    }
    // end
}

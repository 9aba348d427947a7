// A workgroup computes a tile of a product, over a piece of the summed axis. Lines of both operands
// come to workgroup memory by blocks of four lines and four terms, which their thread turns as it
// takes them: so the sums read vectors of neighbouring lines, however operands lie in memory. While
// they are added up, the next blocks are under way. Each thread has 8 x 8 elements, in named
// registers: two quads of rows and two of columns, half a tile apart. What indexes workgroup
// memory in the sums changes with every fourth term only.

const THREADS = $threads;
const DEPTH = $depth;
const DEEP = $deep;
const X_QUADS = $x_quads;
const Y_QUADS = $y_quads;
const X_BLOCKS = X_QUADS * DEEP;
const BLOCKS = X_BLOCKS + Y_QUADS * DEEP;

// By quads of terms, terms, quads of lines; twice, if there are two buffers.
var<workgroup> x_tile: array<array<array<vec4<f32>, $x_quads>, 4>, $blocks>;
var<workgroup> y_tile: array<array<array<vec4<f32>, $y_quads>, 4>, $blocks>;

$sides
$put
// Operands of one workgroup: where its product begins in them, and its tile.
struct Place {
    at: vec2<i32>,
    corner: vec2<i32>,
}

// The terms from k on of a block, of which those from `stop` on are 0.
fn fetched_x(here: Place, number: i32, k: i32, stop: i32) -> mat4x4<f32> {
    let block = x_block(number);
    return x_side(here.at.x, here.corner.x + block.x * 4, k + block.y * 4, stop);
}

fn fetched_y(here: Place, number: i32, k: i32, stop: i32) -> mat4x4<f32> {
    let block = y_block(number - X_BLOCKS);
    return y_side(here.at.y, here.corner.y + block.x * 4, k + block.y * 4, stop);
}

fn fetched_any(here: Place, number: i32, k: i32, stop: i32) -> mat4x4<f32> {
    if (number < X_BLOCKS) {
        return fetched_x(here, number, k, stop);
    }
    return fetched_y(here, number, k, select(k, stop, number < BLOCKS));
}

fn share_x(first: i32, number: i32, values: mat4x4<f32>) {
    let block = x_block(number);
    // repeat i 4
    x_tile[first + block.y][{i}][block.x] = values[{i}];
    // end
}

fn share_y(first: i32, number: i32, values: mat4x4<f32>) {
    let block = y_block(number - X_BLOCKS);
    // repeat i 4
    y_tile[first + block.y][{i}][block.x] = values[{i}];
    // end
}

fn share_any(first: i32, number: i32, values: mat4x4<f32>) {
    if (number < X_BLOCKS) {
        share_x(first, number, values);
    } else if (number < BLOCKS) {
        share_y(first, number, values);
    }
}

@compute @workgroup_size($threads)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.y * groups.x + group.x;
    let across = u32($across);
    let down = u32($down);
    let corner = vec2<i32>(
        i32(number / across % down) * X_QUADS, i32(number % across) * Y_QUADS
    ) * 4;
    let i = i32(number / across / down % u32($batch));
    let piece = i32(number / across / down / u32($batch));
    if (piece >= $pieces) {
        return;
    }
$index
    let here = Place(vec2<i32>(at0, at1), corner);
    let begin = piece * $share;
    let stop = min(begin + $share, $inner);
    let thread = i32(lane);
    // repeat j ${sets}
    var block{j} = mat4x4<f32>();
    // end
    // 32 neighbouring threads are side by side in the tile, as near to a square as can be.
    let beside = Y_QUADS / 2 / $beside;
    let quad = thread % $beside + thread / 32 % beside * $beside;
    let line = thread / $beside % $below + thread / 32 / beside * $below;
    // repeat i 4
    var s{i} = vec4<f32>();
    var t{i} = vec4<f32>();
    var u{i} = vec4<f32>();
    var v{i} = vec4<f32>();
    // end
    for (var k = begin - DEPTH; k < stop; k += DEPTH) {
        let first = $first;
        if (k >= begin) {
            $wait
$share_blocks
            workgroupBarrier();
        }
$fetch_blocks
        if (k < begin) {
            continue;
        }
        for (var own = first; own < first + DEEP; own += ${step}) {
            // repeat m ${step}
            // repeat n 4
            let a{m}{n} = x_tile[own + {m}][{n}][line];
            let b{m}{n} = y_tile[own + {m}][{n}][quad];
            let c{m}{n} = x_tile[own + {m}][{n}][line + X_QUADS / 2];
            let d{m}{n} = y_tile[own + {m}][{n}][quad + Y_QUADS / 2];
            // repeat i 4
            s{i} += a{m}{n}[{i}] * b{m}{n};
            t{i} += a{m}{n}[{i}] * d{m}{n};
            u{i} += c{m}{n}[{i}] * b{m}{n};
            v{i} += c{m}{n}[{i}] * d{m}{n};
            // end
            // end
            // end
        }
    }
    let goal = param(0u) + (piece * $batch + i) * $rows * $columns;
    let row = corner.x + line * 4;
    let column = corner.y + quad * 4;
    // repeat i 4
    put(goal, row + {i}, column, s{i});
    put(goal, row + {i}, column + Y_QUADS * 2, t{i});
    put(goal, row + {i} + X_QUADS * 2, column, u{i});
    put(goal, row + {i} + X_QUADS * 2, column + Y_QUADS * 2, v{i});
    // end
}

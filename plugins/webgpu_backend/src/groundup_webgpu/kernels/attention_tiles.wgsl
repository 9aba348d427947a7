// What the kernels of attention share. A workgroup has 4 * GROUPS lines, queries or keys, and goes
// over the others, 4-vectors of all kept in workgroup memory, WIDE at a time. A thread has the
// lines `own + GROUPS * i` for i in 0..3 and, of what is gone over, those `lane + COLUMNS * j`;
// and of the results the vectors `lane + COLUMNS * c` of its lines. A vec4 of scores belongs to
// the four lines. Of what is gone over, STACK lines lie together, and sums take them in one turn: so
// all but one of the numbers that say where is constant, or the same in all turns.

const GROUPS = $groups;
const COLUMNS = $columns;
const LINES = ${lines};
const WIDE = $wide;
const THREADS = $threads;
const STACK = $stack;
const NEVER = -3.4028234e38;
$spaces

struct Head {
    batch: i32,
    head: i32,
    number: i32,
}

// Without branches, which SwiftShader takes long to compile where there are many.
fn seen(score: f32, at_query: i32, at_key: i32, head: Head) -> f32 {
    let query = min(at_query, $queries - 1);
    let key = min(at_key, $keys - 1);
    let hidden = (at_query > query) | (at_key > key) | (at_key > at_query + $last);
    return select($score, NEVER, hidden);
}

// exp of NaN is NaN, which not all drivers know.
fn power(x: vec4<f32>) -> vec4<f32> {
    let size = bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu);
    return select(exp(x), x, size > vec4<u32>(0x7f800000u));
}

// 1 / (1 - p) or 0: dropout's factor, by the random bits of the place in (B, H, T, S).
fn kept(query: i32, key: i32, head: Head) -> f32 {
$kept
}

$functions
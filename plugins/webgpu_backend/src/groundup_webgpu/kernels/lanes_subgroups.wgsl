// lanes.wgsl where threads of a subgroup, 4 to 128 neighbours, hand each other numbers, and subgroups
// of a row by workgroup memory. The order of additions is fixed, and all threads of a row have the
// same bits: each pair adds the same two numbers. Browsers refuse shuffles and barriers that depend on
// the size of a subgroup, so all are passed through, and what is no neighbour's is left out.

const LANES = ${lanes}u;
const STEPS = min(LANES, 128u);
var<workgroup> shares: array<f32, 128>;

// Neighbours that are in one subgroup and in one row.
fn neighbours() -> u32 {
    let all = countOneBits(subgroupBallot(true));
    return min(LANES, all.x + all.y + all.z + all.w);
}

fn total(share: f32, thread: u32) -> f32 {
    let near = neighbours();
    var sum = share;
    for (var step = 1u; step < STEPS; step *= 2u) {
        sum += select(0.0, subgroupShuffleXor(sum, step), step < near);
    }
    if (thread % near == 0u) {
        shares[thread / near] = sum;
    }
    workgroupBarrier();
    let parts = LANES / near;
    let first = thread / LANES * parts;
    sum = shares[first];
    for (var part = 1u; part < parts; part += 1u) {
        sum += shares[first + part];
    }
    workgroupBarrier();
    return sum;
}

fn largest(share: f32, thread: u32) -> f32 {
    let near = neighbours();
    var top = share;
    for (var step = 1u; step < STEPS; step *= 2u) {
        top = maximum_f32(top, select(top, subgroupShuffleXor(top, step), step < near));
    }
    if (thread % near == 0u) {
        shares[thread / near] = top;
    }
    workgroupBarrier();
    let parts = LANES / near;
    let first = thread / LANES * parts;
    top = shares[first];
    for (var part = 1u; part < parts; part += 1u) {
        top = maximum_f32(top, shares[first + part]);
    }
    workgroupBarrier();
    return top;
}

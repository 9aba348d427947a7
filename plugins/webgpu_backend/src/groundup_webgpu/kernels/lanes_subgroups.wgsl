// lanes.wgsl where threads of a subgroup, 4 to 128 neighbours, hand each other numbers: a row waits
// only where it is of several subgroups. The order of additions is fixed, and all threads of a row
// have the same bits: each pair adds the same two numbers.

const LANES = ${lanes}u;
var<workgroup> shares: array<f32, 64>;

// Neighbours that are in one subgroup and in one row.
fn neighbours() -> u32 {
    let all = countOneBits(subgroupBallot(true));
    return min(LANES, all.x + all.y + all.z + all.w);
}

fn total(share: f32, thread: u32) -> f32 {
    let near = neighbours();
    var sum = share;
    for (var step = 1u; step < near; step *= 2u) {
        sum += subgroupShuffleXor(sum, step);
    }
    if (near == LANES) {
        return sum;
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
    for (var step = 1u; step < near; step *= 2u) {
        top = maximum_f32(top, subgroupShuffleXor(top, step));
    }
    if (near == LANES) {
        return top;
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

// LANES neighbouring threads of a workgroup share one row. Every thread of the workgroup must call
// these together: they wait for each other.

const LANES = ${lanes}u;
var<workgroup> shares: array<f32, 256>;

fn total(share: f32, thread: u32) -> f32 {
    shares[thread] = share;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step /= 2u) {
        if (thread % LANES < step) {
            shares[thread] += shares[thread + step];
        }
        workgroupBarrier();
    }
    let found = shares[thread - thread % LANES];
    workgroupBarrier();
    return found;
}

fn largest(share: f32, thread: u32) -> f32 {
    shares[thread] = share;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step /= 2u) {
        if (thread % LANES < step) {
            shares[thread] = maximum_f32(shares[thread], shares[thread + step]);
        }
        workgroupBarrier();
    }
    let found = shares[thread - thread % LANES];
    workgroupBarrier();
    return found;
}

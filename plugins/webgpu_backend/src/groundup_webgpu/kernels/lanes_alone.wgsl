// lanes.wgsl where a thread has a row to itself.

const LANES = ${lanes}u;

fn total(share: f32, thread: u32) -> f32 {
    return share;
}

fn largest(share: f32, thread: u32) -> f32 {
    return share;
}

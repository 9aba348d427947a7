// The state of the next draw: its 64-bit counter, the last two numbers, grows by one.

@compute @workgroup_size(1)
fn main() {
    let low = load0(param(1u) + 2 * $step0) + 1;
    let high = load0(param(1u) + 3 * $step0) + select(0, 1, low == 0);
    let first = load0(param(1u));
    let second = load0(param(1u) + $step0);
    save(param(0u), first);
    save(param(0u) + 1, second);
    save(param(0u) + 2, low);
    save(param(0u) + 3, high);
}

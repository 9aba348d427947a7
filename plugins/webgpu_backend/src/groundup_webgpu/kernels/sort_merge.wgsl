// Merges sorted runs of rows two by two. Each element's new place is its place in its own run, and
// as many more as come before it in the other one, found by halving that: of equal keys those of the
// first run do.

$functions

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let slot = i32((group.y * groups.x + group.x) * 256u + thread);
    if (slot >= $slots) {
        return;
    }
    let padded = $padded;
    let run = $run;
    let i = slot / padded;
    let begin = $source + i * padded;
    let from_place = slot % padded;
    let key = load0(begin + from_place);
    let own = from_place / run;
    let other = (own ^ 1) * run;
    var low = min(other, padded);
    var high = min(other + run, padded);
    while (low < high) {
        let middle = (low + high) / 2;
        let found = load0(begin + middle);
        if (found < key || (found == key && own % 2 == 1)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let c = from_place % run + own / 2 * 2 * run + low - min(other, padded);
    let chosen = load0(begin + $slots + from_place);
$write
}

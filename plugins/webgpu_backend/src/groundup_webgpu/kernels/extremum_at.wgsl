// Where the largest (or smallest) number of each row is: the first among equals, and the first NaN.

const LANES = ${lanes}u;
var<workgroup> values: array<$type, 256>;
var<workgroup> places: array<i32, 256>;

// Whether b, which stands at `at_b`, is to be preferred to a.
fn better(a: $type, at_a: i32, b: $type, at_b: i32) -> bool {
    if (at_a < 0 || at_b < 0) {
        return at_a < 0;
    }
$nan
    if (a == b) {
        return at_b < at_a;
    }
    return $beyond;
}

$functions
@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = thread % LANES;
    let number = i32((group.y * groups.x + group.x) * (256u / LANES) + thread / LANES);
    let live = number < $rows;
    let i = min(number, $rows - 1);
$index
    var value = load0(at0);
    var place = -1;
    for (var c = i32(lane); c < $units; c += i32(LANES)) {
        let x = $element;
        if (better(value, place, x, c)) {
            value = x;
            place = c;
        }
    }
    values[thread] = value;
    places[thread] = place;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step /= 2u) {
        if (lane < step) {
            let other = thread + step;
            if (better(values[thread], places[thread], values[other], places[other])) {
                values[thread] = values[other];
                places[thread] = places[other];
            }
        }
        workgroupBarrier();
    }
    if (live && lane == 0u) {
        save(param(0u) + i, places[thread]);
    }
}

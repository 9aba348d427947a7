// Matrix product, rung 2: tiles in workgroup memory. A workgroup makes 16 x 16 numbers of out. Its
// invocations bring 16 x 16 numbers of x and of y into memory that they share, wait for each other,
// and use each number 16 times there. Zeros stand for what lies outside, so that all reach the
// barriers.
//
// Storage is read 16 times less often. But a multiply-add still takes two loads, from workgroup
// memory now, and each tile of 16 turns costs two barriers: where the caches served rung 1 well,
// little is won. A driver on the processor loses: it has no such memory, and plays every barrier by
// hand.

var<workgroup> left: array<f32, 256>;
var<workgroup> right: array<f32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = $rows;
    let inner = $inner;
    let columns = $columns;
    let tile = i32(group.y * groups.x + group.x);
    let down = i32(lane / 16u);
    let along = i32(lane % 16u);
    let row = tile / $across * 16 + down;
    let column = tile % $across * 16 + along;
    var sum = 0.0;
    for (var first = 0; first < inner; first += 16) {
        var a = 0.0;
        if (row < rows && first + along < inner) {
            a = load0(param(1u) + row * inner + first + along);
        }
        var b = 0.0;
        if (first + down < inner && column < columns) {
            b = load1(param(2u) + (first + down) * columns + column);
        }
        left[lane] = a;
        right[lane] = b;
        workgroupBarrier();
        for (var k = 0; k < 16; k += 1) {
            sum += left[down * 16 + k] * right[k * 16 + along];
        }
        workgroupBarrier();
    }
    if (row < rows && column < columns) {
        save(param(0u) + row * columns + column, sum);
    }
}

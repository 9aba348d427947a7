// Sorts the blocks of rows in workgroup memory, by a bitonic network (Batcher, 1968): sorted halves
// are merged, the upper one backwards. What fills a row's last block up is sorted to its end.

const BLOCK = ${block}u;
const SLOTS = 1024u;
var<workgroup> keys: array<u32, 1024>;
var<workgroup> places: array<u32, 1024>;

$functions

fn exchange(low: u32, high: u32) {
    let a = keys[low];
    let b = keys[high];
    let m = places[low];
    let n = places[high];
    if (a > b || (a == b && m > n)) {
        keys[low] = b;
        keys[high] = a;
        places[low] = n;
        places[high] = m;
    }
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = (group.y * groups.x + group.x) * SLOTS;
    let padded = u32($padded);
    for (var s = thread; s < SLOTS; s += 256u) {
        let i = i32((first + s) / padded);
        let c = i32((first + s) % padded);
        keys[s] = 0xffffffffu;
        if (i < $rows && c < $width) {
            keys[s] = $turn key_of_$type(load0(row_of(i) + c * $step0));
        }
        places[s] = u32(c);
    }
    workgroupBarrier();
    for (var block = 2u; block <= BLOCK; block *= 2u) {
        for (var p = thread; p < SLOTS / 2u; p += 256u) {
            let begin = p / (block / 2u) * block;
            let c = p % (block / 2u);
            exchange(begin + c, begin + block - 1u - c);
        }
        workgroupBarrier();
        for (var near = block / 4u; near > 0u; near /= 2u) {
            for (var p = thread; p < SLOTS / 2u; p += 256u) {
                let low = p / near * 2u * near + p % near;
                exchange(low, low + near);
            }
            workgroupBarrier();
        }
    }
    for (var s = thread; s < SLOTS; s += 256u) {
        let i = i32((first + s) / padded);
        let c = i32((first + s) % padded);
        if (i < $rows) {
$write
        }
    }
}

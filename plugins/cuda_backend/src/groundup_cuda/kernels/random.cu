// Philox4x32-10 (Salmon et al., 2011): counter (block, draw), key = seed; four words a thread, and of
// each word one element: its bits, a uniform number, or an element of x that is kept or dropped.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    const u64 block = (u64)blockIdx.x * 256 + threadIdx.x;
    const u64 size = (u64)$size, first = block * 4;
    if (first >= size) return;
    const u32 *state = (const u32 *)p.v[1];
    const long long step = $step;
    u32 key0 = state[0], key1 = state[step];
    u32 c[4] = {(u32)block, (u32)(block >> 32), state[2 * step], state[3 * step]};
#pragma unroll
    for (int turn = 0; turn < 10; ++turn) {
        const u64 even = (u64)0xD2511F53u * c[0], odd = (u64)0xCD9E8D57u * c[2];
        c[0] = (u32)(odd >> 32) ^ c[1] ^ key0;
        c[2] = (u32)(even >> 32) ^ c[3] ^ key1;
        c[1] = (u32)odd;
        c[3] = (u32)even;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    const bool packed = first + 4 <= size && ((p.v[0] | p.v[$last]) & 15) == 0;
    const $type *source = (const $type *)p.v[$last] + first;
    $type *out = ($type *)p.v[0] + first;
    $value_type x[4] = {};
    if constexpr ($reads) {
        if (packed) {
            read<4>(x, source);
        } else {
            for (int word = 0; word < 4 && first + word < size; ++word) x[word] = load(source[word]);
        }
    }
#pragma unroll
    for (int word = 0; word < 4; ++word) {
        const u32 bits = c[word];
        x[word] = $value;
    }
    if (packed) {
        write<4>(out, x);
    } else {
        for (int word = 0; word < 4 && first + word < size; ++word) store(out[word], x[word]);
    }
}

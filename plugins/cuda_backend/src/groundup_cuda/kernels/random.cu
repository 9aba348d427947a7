// Philox4x32-10 (Salmon et al., 2011): counter (block, draw), key = seed; four words a thread.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    const u64 block = (u64)blockIdx.x * 256 + threadIdx.x;
    const u64 size = (u64)$size;
    if (block * 4 >= size) return;
    const u32 *state = (const u32 *)p.v[1];
    const long long step = $step;
    u32 key0 = state[0], key1 = state[step];
    u32 c[4] = {(u32)block, (u32)(block >> 32), state[2 * step], state[3 * step]};
    for (int turn = 0; turn < 10; ++turn) {
        const u64 even = (u64)0xD2511F53u * c[0], odd = (u64)0xCD9E8D57u * c[2];
        c[0] = (u32)(odd >> 32) ^ c[1] ^ key0;
        c[2] = (u32)(even >> 32) ^ c[3] ^ key1;
        c[1] = (u32)odd;
        c[3] = (u32)even;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    u32 *out = (u32 *)p.v[0] + block * 4;
    for (int word = 0; word < 4; ++word) {
        if (block * 4 + word < size) out[word] = c[word];
    }
}

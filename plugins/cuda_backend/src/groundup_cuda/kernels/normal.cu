// Normal numbers by Box and Muller (1958): pair k of words makes the numbers k and k + pairs. A thread
// takes four pairs; their second words lie in one or two blocks of Philox4x32-10.

struct ${name}_words {
    u32 c[4];
};

__device__ inline ${name}_words ${name}_draw(const u32 (&state)[4], u64 block) {
    u32 key0 = state[0], key1 = state[1];
    ${name}_words w = {{(u32)block, (u32)(block >> 32), state[2], state[3]}};
#pragma unroll
    for (int turn = 0; turn < 10; ++turn) {
        const u64 even = (u64)0xD2511F53u * w.c[0], odd = (u64)0xCD9E8D57u * w.c[2];
        w.c[0] = (u32)(odd >> 32) ^ w.c[1] ^ key0;
        w.c[2] = (u32)(even >> 32) ^ w.c[3] ^ key1;
        w.c[1] = (u32)odd;
        w.c[3] = (u32)even;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return w;
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    const u64 size = (u64)$size, pairs = (size + 1) / 2;
    const u64 first = ((u64)blockIdx.x * 256 + threadIdx.x) * 4;
    if (first >= pairs) return;
    const long long step = $step;
    u32 state[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) state[k] = ((const u32 *)p.v[1])[k * step];
    const int shift = (int)(pairs % 4);
    const u64 other = (pairs + first) / 4;
    const ${name}_words a = ${name}_draw(state, first / 4), low = ${name}_draw(state, other);
    const ${name}_words high = shift ? ${name}_draw(state, other + 1) : low;
    $type *out = ($type *)p.v[0];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        u32 b = 0;
#pragma unroll
        for (int from = 0; from < 4; ++from) {  // registers have no addresses: choose by comparing
            if (from == (k + shift) % 4) b = k + shift < 4 ? low.c[from] : high.c[from];
        }
        if (first + k >= pairs) break;
        const float unit = 5.9604644775390625e-08f;  // 2^-24
        const float radius = sqrtf(logf((float)((a.c[k] >> 8) + 1) * unit) * -2.0f);
        const float angle = ((float)(b >> 8) * unit - 0.5f) * 6.283185307179586f;
        const u64 second = first + k + pairs;
        store(out[first + k], radius * cosf(angle) * $deviation + $mean);
        if (second < size) store(out[second], radius * sinf(angle) * $deviation + $mean);
    }
}

// What all attention kernels share: how operands lie in memory, where a query may look, and
// dropout.
#ifndef ATTENTION_COMMON
#define ATTENTION_COMMON

// Where the matrices of one operand lie; distances count elements.
struct Strides {
    long long batch, head, row, column;
    __device__ long long at(int b, int h) const { return b * batch + h * head; }
};

// Scores are q k^T scale, and bias where there is one. Query i sees keys j <= i + offset.
struct Attention {
    int heads, group, queries, keys, size,
        width;  // heads of q, query heads per head of k, T, S, D, E
    float scale;
    int offset;
    u32 dropped;  // words whose upper 24 bits lie below it are dropped
    float kept;  // what the others are multiplied by
};

// A query head: its batch, its number, that of its keys, and its place among all.
struct Head {
    int batch, query, key;
    long long place;
};

__device__ inline Head head_of(const Attention &a, long long place) {
    const int head = (int)(place % a.heads);
    return {(int)(place / a.heads), head, head / a.group, place};
}

// Of so many keys, those that are filled.
__device__ inline int limited(int filled, int keys) {
    return filled < 0 ? 0 : filled < keys ? filled : keys;
}

__device__ inline float infinity() { return __int_as_float(0x7f800000); }

// How far keys must be read for queries below `end`.
template <bool causal> __device__ inline int last_key(const Attention &a, int end) {
    if (!causal) return a.keys;
    const int seen = end + a.offset;
    return seen < 0 ? 0 : seen < a.keys ? seen : a.keys;
}

// A mask of bools hides, one of floats is added. `None`: there is no mask.
struct None {};
template <typename A, typename B> struct Same {
    static constexpr bool value = false;
};
template <typename A> struct Same<A, A> {
    static constexpr bool value = true;
};
template <typename M> struct Mask {
    const M *start;
    Strides strides;
    __device__ Mask of(const Head &h) const {
        return {start + strides.at(h.batch, h.query), strides};
    }
    __device__ float operator()(float score, int query, int key) const {
        return score + load(start[query * strides.row + key * strides.column]);
    }
};
template <> __device__ inline float Mask<bool>::operator()(float score, int query, int key) const {
    return start[query * strides.row + key * strides.column] ? score : -infinity();
}
template <> struct Mask<None> {
    __device__ Mask of(const Head &) const { return {}; }
    __device__ float operator()(float score, int, int) const { return score; }
};

// A scaled score as the softmax sees it: -infinity where the query must not look.
template <bool causal, typename M>
__device__ inline float seen(
    const Attention &a, const Mask<M> &mask, float score, int query, int key
) {
    if (query >= a.queries || key >= a.keys || (causal && key > query + a.offset))
        return -infinity();
    return mask(score, query, key);
}

// Philox4x32-10 (Salmon et al., 2011): counter (block, draw), key = seed.
struct Draw4 {
    u32 a, b, c, d;
    __device__ u32 at(u32 i) const { return i == 0 ? a : i == 1 ? b : i == 2 ? c : d; }
};
__device__ inline Draw4 philox(const u32 (&state)[4], u64 block) {
    u32 c[4] = {(u32)block, (u32)(block >> 32), state[2], state[3]};
    u32 key0 = state[0], key1 = state[1];
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
    return {c[0], c[1], c[2], c[3]};
}

// Dropout of probabilities. Each has the word of its place in (batch, heads, queries, keys).
template <bool drops> struct Dropout {
    u32 state[4];
    __device__ Dropout(const int *from, long long step) {
        for (int i = 0; i < 4; ++i) state[i] = drops ? (u32)from[i * step] : 0;
    }
    __device__ bool keeps(const Attention &a, const Head &h, int query, int key) const {
        if (!drops) return true;
        const u64 place = ((u64)h.place * a.queries + query) * a.keys + key;
        return (philox(state, place / 4).at(place % 4) >> 8) >= a.dropped;
    }
};

#endif

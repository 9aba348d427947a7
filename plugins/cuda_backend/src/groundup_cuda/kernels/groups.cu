// Shared by the kernels of whole rows. A group of threads, one warp or the whole block, owns a row:
// its threads read neighbouring packs of elements and join their sums by shuffles. The order of
// additions is fixed, so a result is the same every time.

// ---- W neighbouring elements by loads and stores of up to 16 bytes, T in memory, V in registers ----

template <int BYTES> struct Words;
template <> struct Words<4> {
    typedef u32 type;
};
template <> struct Words<8> {
    typedef uint2 type;
};
template <> struct Words<16> {
    typedef uint4 type;
};

template <int W, typename T, typename V> __device__ inline void read(V *to, const T *from) {
    constexpr int bytes = W * sizeof(T) < 16 ? W * sizeof(T) : 16, many = bytes / sizeof(T);
    if constexpr (W == 1) {
        to[0] = load(*from);
    } else {
#pragma unroll
        for (int at = 0; at < W; at += many) {
            union {
                typename Words<bytes>::type words;
                T items[many];
            };
            words = *(const typename Words<bytes>::type *)(from + at);
#pragma unroll
            for (int k = 0; k < many; ++k) to[at + k] = load(items[k]);
        }
    }
}

template <int W, typename T, typename V> __device__ inline void write(T *to, const V *from) {
    constexpr int bytes = W * sizeof(T) < 16 ? W * sizeof(T) : 16, many = bytes / sizeof(T);
    if constexpr (W == 1) {
        store(*to, from[0]);
    } else {
#pragma unroll
        for (int at = 0; at < W; at += many) {
            union {
                typename Words<bytes>::type words;
                T items[many];
            };
#pragma unroll
            for (int k = 0; k < many; ++k) store(items[k], from[at + k]);
            *(typename Words<bytes>::type *)(to + at) = words;
        }
    }
}

// Whether all of the first N parameters, which are addresses, allow loads of 16 bytes.
template <int N, typename P> __device__ inline bool aligned(const P &p) {
    long long all = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) all |= p.v[k];
    return (all & 15) == 0;
}

// Which of many tensors a block belongs to, by bisection: parameters from `starts` on are the first
// blocks of each. STEP is half of their number, rounded up to a power of two.
template <int TENSORS, int STEP, typename P> __device__ inline int tensor_of(const P &p, int starts) {
    int which = 0;
#pragma unroll 1
    for (int step = STEP; step > 0; step /= 2) {
        const int other = which + step;
        if (other < TENSORS && p.v[starts + other] <= (long long)blockIdx.x) which = other;
    }
    return which;
}

// ---- joining over a group; every thread of it gets the result, and the same bits ----

struct Sum {
    template <typename T> static __device__ T join(T a, T b) { return a + b; }
};
struct Largest {
    static __device__ float join(float a, float b) { return fmaxf(a, b); }
};

template <int GROUP, typename How, typename T, int N> __device__ inline void joined(T (&x)[N]) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            x[k] = How::join(x[k], __shfl_xor_sync(0xffffffffu, x[k], step));
        }
    }
    if constexpr (GROUP > 32) {
        __shared__ T parts[N][GROUP / 32];
        const int warp = threadIdx.x / 32;
        if (threadIdx.x % 32 == 0) {
#pragma unroll
            for (int k = 0; k < N; ++k) parts[k][warp] = x[k];
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < N; ++k) {
            x[k] = parts[k][0];
#pragma unroll
            for (int w = 1; w < GROUP / 32; ++w) x[k] = How::join(x[k], parts[k][w]);
        }
        __syncthreads();  // before `parts` is written again
    }
}

template <int GROUP> __device__ inline float total(float x) {
    float one[1] = {x};
    joined<GROUP, Sum>(one);
    return one[0];
}
template <int GROUP> __device__ inline float largest(float x) {
    float one[1] = {x};
    joined<GROUP, Largest>(one);
    return one[0];
}

// ---- word `place` of a draw of random bits, by Philox4x32-10 (see random.cu) ----

__device__ inline u32 random_word(const u32 *state, long long step, u64 place) {
    const u64 block = place / 4;
    u32 key0 = state[0], key1 = state[step];
    u32 a = (u32)block, b = (u32)(block >> 32), c = state[2 * step], d = state[3 * step];
#pragma unroll
    for (int turn = 0; turn < 10; ++turn) {
        const u64 even = (u64)0xD2511F53u * a, odd = (u64)0xCD9E8D57u * c;
        a = (u32)(odd >> 32) ^ b ^ key0;
        c = (u32)(even >> 32) ^ d ^ key1;
        b = (u32)odd;
        d = (u32)even;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    const int word = (int)(place % 4);
    return word == 0 ? a : word == 1 ? b : word == 2 ? c : d;
}

// ---- sum(exp(x)) as it is read: sum * exp(shift), with shift the largest so far ----

struct Exponentials {
    float top, sum;

    __device__ Exponentials() : top(Extremes<float>::lowest()), sum(0.0f) {}

    // Infinities are not subtracted: their difference would be NaN.
    static __device__ float shift(float top) { return top - top == 0.0f ? top : 0.0f; }

    // An empty sum stays 0: the exponential beside it may be infinite.
    __device__ void move(float to) {
        if (sum != 0.0f) sum *= expf(shift(top) - shift(to));
        top = to;
    }

    template <int N> __device__ void take(const float (&x)[N]) {
        float higher = top;
#pragma unroll
        for (int k = 0; k < N; ++k) higher = fmaxf(higher, x[k]);
        if (higher != top) move(higher);
        const float by = shift(top);
#pragma unroll
        for (int k = 0; k < N; ++k) sum += expf(x[k] - by);
    }

    template <int GROUP> __device__ void join() {
        move(largest<GROUP>(top));
        sum = total<GROUP>(sum);
    }
};

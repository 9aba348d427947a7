// What the words of CUDA C++ mean when a kernel is compiled for the processor, so that tests can run
// it without a GPU. Blocks run one after the other. The threads of a block are contexts that take
// turns: each runs until it meets a barrier or exchanges something with its warp, and each warp until
// it meets a barrier. They go in rising or falling order, and results must not depend on it, or a
// barrier is missing.
//
// Misuse ends the process: a barrier or an exchange that not all threads reach.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>

#define __device__
#define __global__
#define __shared__ static
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

namespace emulated {

const int MOST = 1024;
const size_t STACK = 1 << 18;
enum State { READY, AT_WARP, AT_BLOCK, DONE };

struct Place {
    unsigned x, y, z;
};
static Place block_index, thread_index;
static int current, threads;
static State states[MOST];
static ucontext_t host, contexts[MOST];
static unsigned char handed[MOST][64];  // what each thread shows its warp
static int votes[MOST];

[[noreturn]] static void misuse(const char *what) {
    fprintf(stderr, "emulation: %s\n", what);
    abort();
}

static void wait_as(State state) {
    const int mine = current;
    states[mine] = state;
    swapcontext(&contexts[mine], &host);
}

// Show x to the warp, and see what all its lanes show.
template <typename T> static void gather(const T &x, T (&all)[32]) {
    static_assert(sizeof(T) <= sizeof(handed[0]), "too large");
    const int mine = current;
    memcpy(handed[mine], &x, sizeof(T));
    wait_as(AT_WARP);
    for (int lane = 0; lane < 32; ++lane) {
        memcpy(&all[lane], handed[mine / 32 * 32 + lane], sizeof(T));
    }
    wait_as(AT_WARP);
}

template <typename T> static T exchanged(const T &x, int from) {
    T all[32];
    gather(x, all);
    return all[from & 31];
}

// Whether all threads from `first` on, `many`, that are not done stand at `state`; at least one.
static bool all_at(State state, int first, int many) {
    int there = 0, done = 0;
    for (int t = first; t < first + many; ++t) {
        there += states[t] == state;
        done += states[t] == DONE;
    }
    if (there && there + done == many && done) misuse("some threads of a group have ended");
    return there == many;
}

static void release(int first, int many) {
    for (int t = first; t < first + many; ++t) states[t] = READY;
}

template <typename P> struct Call {
    static void (*kernel)(const P);
    static const P *parameters;
    static void go() {
        kernel(*parameters);
        states[current] = DONE;
    }
};
template <typename P> void (*Call<P>::kernel)(const P);
template <typename P> const P *Call<P>::parameters;

static void enter(int t) {
    current = t;
    thread_index.x = (unsigned)t;
    swapcontext(&host, &contexts[t]);
}

// As far as a warp comes without the others.
static void run_warp(int first, bool falling) {
    for (bool moved = true; moved;) {
        moved = false;
        for (int turn = 0; turn < 32; ++turn) {
            const int t = first + (falling ? 31 - turn : turn);
            if (states[t] != READY) continue;
            enter(t);
            moved = true;
        }
        if (all_at(AT_WARP, first, 32)) release(first, 32);
    }
}

static void run_block(bool falling) {
    for (;;) {
        for (int turn = 0; turn < threads; turn += 32) {
            run_warp(falling ? threads - 32 - turn : turn, falling);
        }
        if (!all_at(AT_BLOCK, 0, threads)) break;
        release(0, threads);
    }
    for (int t = 0; t < threads; ++t) {
        if (states[t] != DONE) misuse("threads wait for each other");
    }
}

template <typename P>
void run(void (*kernel)(const P), unsigned blocks, int many, bool falling, const void *parameters) {
    static char *stacks = (char *)malloc(MOST * STACK);
    Call<P>::kernel = kernel;
    Call<P>::parameters = (const P *)parameters;
    threads = many;
    for (block_index.x = 0; block_index.x < blocks; ++block_index.x) {
        for (int t = 0; t < threads; ++t) {
            getcontext(&contexts[t]);
            contexts[t].uc_stack.ss_sp = stacks + t * STACK;
            contexts[t].uc_stack.ss_size = STACK;
            contexts[t].uc_link = &host;
            makecontext(&contexts[t], (void (*)())Call<P>::go, 0);
            states[t] = READY;
        }
        run_block(falling);
    }
}

static float half_value(unsigned short bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                       : exponent     ? ldexpf((float)(1024 + fraction), exponent - 25)
                                      : ldexpf((float)fraction, -24);
    return bits >> 15 ? -size : size;
}

// Rounded to nearest, ties to even, as the processor's own rounding does it.
static unsigned short half_bits(float x) {
    const unsigned short sign = std::signbit(x) ? 0x8000 : 0;
    const float size = fabsf(x);
    if (x != x) return 0x7e00;
    if (size == 0.0f) return sign;
    if (size >= 65520.0f) return sign | 0x7c00;
    int exponent;
    frexpf(size, &exponent);
    const int unit = exponent < -13 ? -24 : exponent - 11;
    const int steps = (int)nearbyintf(ldexpf(size, -unit));
    return sign | (unsigned short)(unit == -24 ? steps : ((unit + 24) << 10) + steps);
}

}  // namespace emulated

using std::max;
using std::min;

#define blockIdx emulated::block_index
#define threadIdx emulated::thread_index

struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static inline void __syncthreads() { emulated::wait_as(emulated::AT_BLOCK); }
static inline void __syncwarp(unsigned = ~0u) { emulated::wait_as(emulated::AT_WARP); }
static inline int __syncthreads_or(int x) {
    emulated::votes[emulated::current] = x;
    __syncthreads();
    int any = 0;
    for (int t = 0; t < emulated::threads; ++t) any |= emulated::votes[t];
    __syncthreads();
    return any;
}
template <typename T> static T __shfl_sync(unsigned, T x, int lane) {
    return emulated::exchanged(x, lane);
}
template <typename T> static T __shfl_xor_sync(unsigned, T x, int mask) {
    return emulated::exchanged(x, emulated::current ^ mask);
}
template <typename T> static T __shfl_up_sync(unsigned, T x, int by) {
    const int lane = emulated::current % 32;
    return emulated::exchanged(x, lane < by ? lane : lane - by);
}
template <typename T> static T __shfl_down_sync(unsigned, T x, int by) {
    const int lane = emulated::current % 32;
    return emulated::exchanged(x, lane + by > 31 ? lane : lane + by);
}
static inline unsigned __ballot_sync(unsigned, bool yes) {
    bool all[32];
    emulated::gather(yes, all);
    unsigned bits = 0;
    for (int lane = 0; lane < 32; ++lane) bits |= (unsigned)all[lane] << lane;
    return bits;
}
static inline int __any_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes != 0) != 0; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
template <typename To, typename From> static To same_bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "another size");
    To y;
    memcpy(&y, &x, sizeof(y));
    return y;
}
static inline float __uint_as_float(unsigned x) { return same_bits<float>(x); }
static inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return same_bits<float>(x); }
static inline double __longlong_as_double(long long x) { return same_bits<double>(x); }
template <typename T> static T atomicAdd(T *to, T x) {
    const T before = *to;
    *to = (T)(before + x);
    return before;
}

// Running sums along lines: one thread, one warp or one block takes a line, or a piece of one. Four
// elements of each thread at a time are scanned by shuffles and put behind all that came before.
//
// A long line is cut into pieces: the first launch adds up each, and the second begins each piece with
// the sums of those before it, so every element is read twice. All orders are fixed by shapes.
//
// Bytes: x read once or, in pieces, twice, and out written once. 16 M float32 in 64 lines: 201 MB, on
// an H100 (copy 3000 GB/s) no less than 67 us.

struct ${name}_join {
    template <typename T> static __device__ T join(T a, T b) { return add(a, b); }
};

// v[k] of every thread becomes the sum of all v up to it; what is returned is the sum of them all.
// Elements are in the order of k, then of threads.
template <int GROUP, int EACH, typename Value>
__device__ inline Value ${name}_scanned(Value (&v)[EACH], Value before) {
    if constexpr (GROUP == 1) {
#pragma unroll
        for (int k = 0; k < EACH; ++k) before = v[k] = add(before, v[k]);
        return before;
    } else {
        const int lane = threadIdx.x % 32, warp = threadIdx.x % GROUP / 32;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
#pragma unroll
            for (int k = 0; k < EACH; ++k) {
                const Value other = __shfl_up_sync(0xffffffffu, v[k], step);
                if (lane >= step) v[k] = add(other, v[k]);
            }
        }
        __shared__ Value totals[EACH][8];
        if constexpr (GROUP > 32) {
            if (lane == 31) {
#pragma unroll
                for (int k = 0; k < EACH; ++k) totals[k][warp] = v[k];
            }
            __syncthreads();
        }
#pragma unroll
        for (int k = 0; k < EACH; ++k) {
            Value mine = before;
            if constexpr (GROUP > 32) {
#pragma unroll
                for (int w = 0; w < GROUP / 32; ++w) {
                    if (w == warp) mine = before;
                    before = add(before, totals[k][w]);
                }
            } else {
                before = add(before, __shfl_sync(0xffffffffu, v[k], 31));
            }
            v[k] = add(mine, v[k]);
        }
        if constexpr (GROUP > 32) __syncthreads();  // before `totals` is written again
        return before;
    }
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $accumulator Value;
    constexpr int group = $group, each = 4;
    const int lane = threadIdx.x % group;
    const Index lines = (Index)$lines, piece = (Index)$piece, length = (Index)$length;
    const Index number_of = (Index)blockIdx.x * (256 / group) + threadIdx.x / group;
    const Index i = number_of % lines, which = number_of / lines;
    const Index begin = which * piece, end = begin + piece < length ? begin + piece : length;
    if (begin >= length) return;
$index
    const $in0 *x = (const $in0 *)p.v[1] + at0;
    Value before[1] = {0};
    if constexpr ($totals) {
        for (Index j = begin + lane; j < end; j += group) {
            before[0] = add(before[0], (Value)load(x[j * (Index)$step]));
        }
        if constexpr (group > 1) joined<group, ${name}_join>(before);
        if (lane == 0) ((Value *)p.v[0])[which * lines + i] = before[0];
        return;
    }
    if constexpr ($pieces) {
        const Value *totals = (const Value *)p.v[$last];
        for (Index k = lane; k < which; k += group) {
            before[0] = add(before[0], totals[k * lines + i]);
        }
        if constexpr (group > 1) joined<group, ${name}_join>(before);
    }
    $out *out = ($out *)p.v[0] + place;
    for (Index from = begin; from < end; from += group * each) {
        Value v[each];
#pragma unroll
        for (int k = 0; k < each; ++k) {
            const Index j = from + k * group + lane;
            v[k] = j < end ? (Value)load(x[j * (Index)$step]) : (Value)0;
        }
        before[0] = ${name}_scanned<group, each>(v, before[0]);
#pragma unroll
        for (int k = 0; k < each; ++k) {
            const Index j = from + k * group + lane;
            if (j < end) store(out[j * (Index)$out_step], v[k]);
        }
    }
}

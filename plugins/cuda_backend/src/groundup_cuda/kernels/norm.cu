// layer_norm and rms_norm of rows that fit into registers, behind a residual add or not: one group of
// threads per row, read once and written once. Variance by two passes over the registers, since
// E[x^2] - E[x]^2 cancels.
//
// Each operand has a type of its own: all is computed in float, and rounded where it is stored.
//
// Bytes: x and out, and the residual and the sum if there are. 65536 x 1024 of bfloat16: 268 MB, on an
// H100 (copy 3000 GB/s) no less than 89 us; with residual 537 MB, 179 us.

template <int W> __device__ inline void ${name}_row(const Parameters<$count> &p) {
    typedef $index_type Index;
    typedef $residual_type Residual;
    typedef $vector Vector;
    typedef $out Out;
    typedef $sum Total;
    constexpr int group = $group, packs = $packs * $width / W, operands = $addresses;
    constexpr bool centred = $centred, residual = $residual, biased = $biased;
    const int lane = threadIdx.x % group, columns = (int)$columns;
    const Index i = (Index)blockIdx.x * (256 / group) + threadIdx.x / group;
    if (i >= (Index)$rows) return;
$index
    const $type *x = (const $type *)p.v[operands - 1 - biased - 1 - residual] + at0;
    const Residual *more = (const Residual *)p.v[operands - 1 - biased - 1] + at1;
    // All loads are on their way before the first is waited for, or a store follows.
    float v[packs][W], r[residual ? packs : 1][W];
#pragma unroll
    for (int k = 0; k < packs; ++k) {
        const int column = (k * group + lane) * W;
#pragma unroll
        for (int e = 0; e < W; ++e) v[k][e] = 0.0f;
        if (column < columns) {
            read<W>(v[k], x + column);
            if constexpr (residual) read<W>(r[k], more + column);
        }
    }
    if constexpr (residual) {
        Total *sum = (Total *)p.v[1] + i * columns;
#pragma unroll
        for (int k = 0; k < packs; ++k) {
            const int column = (k * group + lane) * W;
            if (column < columns) {
#pragma unroll
                for (int e = 0; e < W; ++e) v[k][e] += r[k][e];
                write<W>(sum + column, v[k]);
            }
        }
    }
    float mean = 0.0f;
    if constexpr (centred) {
#pragma unroll
        for (int k = 0; k < packs; ++k) {
#pragma unroll
            for (int e = 0; e < W; ++e) mean += v[k][e];
        }
        mean = total<group>(mean) / (float)columns;
    }
    float squares = 0.0f;
#pragma unroll
    for (int k = 0; k < packs; ++k) {
        if ((k * group + lane) * W < columns) {
#pragma unroll
            for (int e = 0; e < W; ++e) {
                v[k][e] -= mean;
                squares += v[k][e] * v[k][e];
            }
        }
    }
    const float scale = 1.0f / sqrtf(total<group>(squares) / (float)columns + $eps);
    const Vector *weight = (const Vector *)p.v[operands - 1 - biased];
    const Vector *bias = (const Vector *)p.v[operands - 1];
    Out *out = (Out *)p.v[0] + i * columns;
#pragma unroll
    for (int k = 0; k < packs; ++k) {
        const int column = (k * group + lane) * W;
        if (column < columns) {
            float w[W], b[W];
            read<W>(w, weight + column);
            if constexpr (biased) read<W>(b, bias + column);
#pragma unroll
            for (int e = 0; e < W; ++e) {
                v[k][e] = v[k][e] * scale * w[e];
                if constexpr (biased) v[k][e] += b[e];
            }
            write<W>(out + column, v[k]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    if ($width > 1 && aligned<$addresses>(p)) ${name}_row<$width>(p);
    else ${name}_row<1>(p);
}

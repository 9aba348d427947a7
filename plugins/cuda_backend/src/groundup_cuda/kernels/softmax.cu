// softmax and log_softmax of rows that fit into registers, and their gradients: one group of threads
// per row; every operand is read once and the result written once. Each has a type of its own.
//
// Bytes: x and out (gradients: out, grad and dx). 65536 x 1024 of bfloat16: 268 MB, on an H100
// (copy 3000 GB/s) no less than 89 us; gradients 403 MB, 134 us.

template <int W> __device__ inline void ${name}_row(const Parameters<$count> &p) {
    typedef $index_type Index;
    typedef $grad Grad;
    typedef $out Out;
    constexpr int group = $group, packs = $packs * $width / W;
    constexpr bool logarithm = $logarithm, backward = $backward;
    const int lane = threadIdx.x % group, columns = (int)$columns;
    const Index i = (Index)blockIdx.x * (256 / group) + threadIdx.x / group;
    if (i >= (Index)$rows) return;
$index
    const $type *x = (const $type *)p.v[1] + at0;
    Out *out = (Out *)p.v[0] + i * columns;
    float v[packs][W];
#pragma unroll
    for (int k = 0; k < packs; ++k) {
        const int column = (k * group + lane) * W;
#pragma unroll
        for (int e = 0; e < W; ++e) v[k][e] = Extremes<float>::lowest();
        if (column < columns) read<W>(v[k], x + column);
    }
    float sum = 0.0f, top = Extremes<float>::lowest();
    if constexpr (backward) {
        const Grad *grad = (const Grad *)p.v[2] + at1;
        float d[packs][W] = {};
#pragma unroll
        for (int k = 0; k < packs; ++k) {
            const int column = (k * group + lane) * W;
            if (column < columns) {
                read<W>(d[k], grad + column);
#pragma unroll
                for (int e = 0; e < W; ++e) sum += logarithm ? d[k][e] : d[k][e] * v[k][e];
            }
        }
        sum = total<group>(sum);
#pragma unroll
        for (int k = 0; k < packs; ++k) {
#pragma unroll
            for (int e = 0; e < W; ++e) {
                v[k][e] = logarithm ? d[k][e] - expf(v[k][e]) * sum : v[k][e] * (d[k][e] - sum);
            }
        }
    } else {
#pragma unroll
        for (int k = 0; k < packs; ++k) {
#pragma unroll
            for (int e = 0; e < W; ++e) top = fmaxf(top, v[k][e]);
        }
        top = largest<group>(top);
#pragma unroll
        for (int k = 0; k < packs; ++k) {
            if ((k * group + lane) * W < columns) {
#pragma unroll
                for (int e = 0; e < W; ++e) {
                    v[k][e] -= top;
                    const float power = expf(v[k][e]);
                    sum += power;
                    if constexpr (!logarithm) v[k][e] = power;
                }
            }
        }
        sum = total<group>(sum);
        const float by = logarithm ? logf(sum) : 1.0f / sum;
#pragma unroll
        for (int k = 0; k < packs; ++k) {
#pragma unroll
            for (int e = 0; e < W; ++e) v[k][e] = logarithm ? v[k][e] - by : v[k][e] * by;
        }
    }
#pragma unroll
    for (int k = 0; k < packs; ++k) {
        const int column = (k * group + lane) * W;
        if (column < columns) write<W>(out + column, v[k]);
    }
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    if ($width > 1 && aligned<$addresses>(p)) ${name}_row<$width>(p);
    else ${name}_row<1>(p);
}

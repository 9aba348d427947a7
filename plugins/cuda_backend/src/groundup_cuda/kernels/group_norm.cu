// group_norm, or just each group's statistics: one warp or one block per group of a sample. Variance
// by a second pass, since E[x^2] - E[x]^2 cancels; that pass and the last one read from the cache.
//
// Bytes: x and out once. 32 x 256 x 56 x 56 of float32: 206 MB, on an H100 (copy 3000 GB/s) no less
// than 69 us.

template <int W> __device__ inline void ${name}_row(const Parameters<$count> &p) {
    typedef $index_type Index;
    typedef $type Type;
    constexpr int group = $group;
    const Index rows = (Index)$rows, groups = (Index)$groups, columns = (Index)$columns;
    const Index i = (Index)blockIdx.x * (256 / group) + threadIdx.x / group;
    if (i >= rows) return;
$index
    const Type *x = (const Type *)p.v[1] + at0;
    const Index first = threadIdx.x % group * W;
    float mean = 0.0f, squares = 0.0f;
#pragma unroll 4
    for (Index j = first; j < columns; j += group * W) {
$inner
        float v[W];
        read<W>(v, x + column);
#pragma unroll
        for (int e = 0; e < W; ++e) mean += v[e];
    }
    mean = total<group>(mean) / (float)columns;
#pragma unroll 4
    for (Index j = first; j < columns; j += group * W) {
$inner
        float v[W];
        read<W>(v, x + column);
#pragma unroll
        for (int e = 0; e < W; ++e) squares += (v[e] - mean) * (v[e] - mean);
    }
    const float scale = 1.0f / sqrtf(total<group>(squares) / (float)columns + $eps);
    if constexpr ($statistics) {
        float *kept = (float *)p.v[0] + $kept;
        if (threadIdx.x % group == 0) {
            kept[i] = mean;
            kept[rows + i] = scale;
        }
        return;
    }
    const Index area = (Index)$area, channel = i % groups * (columns / area);
    const Type *weight = (const Type *)p.v[2], *bias = (const Type *)p.v[$last];
    Type *out = (Type *)p.v[0] + i * columns;
#pragma unroll 2
    for (Index j = first; j < columns; j += group * W) {
$inner
        const Index of = channel + j / area;
        const float w = load(weight[of * (Index)$weight_step]);
        const float b = load(bias[of * (Index)$bias_step]);
        float v[W];
        read<W>(v, x + column);
#pragma unroll
        for (int e = 0; e < W; ++e) v[e] = (v[e] - mean) * scale * w + b;
        write<W>(out + j, v);
    }
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    if ($width > 1 && aligned<2>(p)) ${name}_row<$width>(p);
    else ${name}_row<1>(p);
}

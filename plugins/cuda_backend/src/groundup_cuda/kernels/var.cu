// The variance along any axes, in two passes, since E[x^2] - E[x]^2 cancels: one warp or one block per
// result, or one thread where results lie side by side in memory.

template <int W> __device__ inline void ${name}_row(const Parameters<$count> &p) {
    typedef $index_type Index;
    typedef $type Type;
    constexpr int group = $group;
    const Index i = (Index)blockIdx.x * (256 / group) + threadIdx.x / group;
    if (i >= (Index)$rows) return;
$index
    const Index columns = (Index)$columns, first = threadIdx.x % group * W;
    const Type *x = (const Type *)p.v[1] + at0;
    float mean = 0.0f, squares = 0.0f;
#pragma unroll 4
    for (Index c = first; c < columns; c += group * W) {
$inner
        float v[W];
        read<W>(v, x + column);
#pragma unroll
        for (int e = 0; e < W; ++e) mean += v[e];
    }
    if constexpr (group > 1) mean = total<group>(mean);
    mean /= (float)columns;
#pragma unroll 4
    for (Index c = first; c < columns; c += group * W) {
$inner
        float v[W];
        read<W>(v, x + column);
#pragma unroll
        for (int e = 0; e < W; ++e) squares += (v[e] - mean) * (v[e] - mean);
    }
    if constexpr (group > 1) squares = total<group>(squares);
    if (threadIdx.x % group == 0) store((($out *)p.v[0])[i], squares / (float)$degrees);
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    if ($width > 1 && (p.v[1] & 15) == 0) ${name}_row<$width>(p);
    else ${name}_row<1>(p);
}

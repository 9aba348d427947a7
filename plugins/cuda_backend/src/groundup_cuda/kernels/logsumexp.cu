// log(sum(exp(x))) along any axes: one warp or one block per result, or one thread where results lie
// side by side in memory. Everything is read once.

template <int W> __device__ inline void ${name}_row(const Parameters<$count> &p) {
    typedef $index_type Index;
    typedef $type Type;
    constexpr int group = $group;
    const Index i = (Index)blockIdx.x * (256 / group) + threadIdx.x / group;
    if (i >= (Index)$rows) return;
$index
    const Index columns = (Index)$columns;
    const Type *x = (const Type *)p.v[1] + at0;
    Exponentials all;
#pragma unroll 4
    for (Index c = threadIdx.x % group * W; c < columns; c += group * W) {
$inner
        float v[W];
        read<W>(v, x + column);
        all.take(v);
    }
    if constexpr (group > 1) all.join<group>();
    if (threadIdx.x % group == 0) {
        store((($out *)p.v[0])[i], logf(all.sum) + Exponentials::shift(all.top));
    }
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    if ($width > 1 && (p.v[1] & 15) == 0) ${name}_row<$width>(p);
    else ${name}_row<1>(p);
}

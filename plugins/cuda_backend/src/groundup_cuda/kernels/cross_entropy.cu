// Of each row of logits its log-sum-exp and its loss, logsumexp - logits[target]: one warp or one
// block per row, which is read once, four packs per thread at a time.
//
// Bytes: logits, and little more. 8192 x 50304 of bfloat16: 824 MB, on an H100 (copy 3000 GB/s) no
// less than 275 us; the gradient reads and writes as much, 549 us.

template <int W> __device__ inline void ${name}_row(const Parameters<$count> &p) {
    typedef $index_type Index;
    typedef $type Type;
    constexpr int group = $group, ahead = 4;
    const Index i = (Index)blockIdx.x * (256 / group) + threadIdx.x / group;
    if (i >= (Index)$rows) return;
$index
    const Index columns = (Index)$columns;
    const Type *x = (const Type *)p.v[2] + at0;
    Exponentials all;
    for (Index from = threadIdx.x % group * W; from < columns; from += group * W * ahead) {
        float v[ahead * W];
#pragma unroll
        for (int k = 0; k < ahead; ++k) {
            const Index c = from + (Index)(k * group * W);
#pragma unroll
            for (int e = 0; e < W; ++e) v[k * W + e] = Extremes<float>::lowest();
            if (c < columns) read<W>(v + k * W, x + c);
        }
        all.take(v);
    }
    all.join<group>();
    if (threadIdx.x % group == 0) {
        const float finite = all.top - all.top;  // else NaN, as is what a row has that holds infinity
        const float log_sum = logf(all.sum) + finite;
        const long long target = (long long)((const $target *)p.v[3])[at1];
        const float picked = target < 0 || target >= columns ? 0.0f : load(x[target]) - all.top;
        store((($losses *)p.v[0])[i], target == $ignored ? 0.0f : log_sum - picked);
        store((($sums *)p.v[1])[i], log_sum + all.top);
    }
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    if ($width > 1 && (p.v[2] & 15) == 0) ${name}_row<$width>(p);
    else ${name}_row<1>(p);
}

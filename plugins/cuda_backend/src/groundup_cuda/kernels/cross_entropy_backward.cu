// (exp(logits - logsumexp) - onehot(target)) g + exp(logits - logsumexp) grad_logsumexp, where g is the
// row's share of the loss's gradient: a stream over the logits, each row in pieces of up to four
// packs per thread.
//
// Bytes: logits read, gradient written; see cross_entropy.cu.

template <int W> __device__ inline void ${name}_piece(const Parameters<$count> &p) {
    typedef $index_type Index;
    typedef $type Type;
    constexpr int group = $group, ahead = 4;
    const Index n = (Index)blockIdx.x * (256 / group) + threadIdx.x / group;
    const Index pieces = (Index)$pieces, i = n / pieces;
    if (i >= (Index)$rows) return;
$index
    const Index columns = (Index)$columns;
    const Index begin = n % pieces * (group * $width * ahead);
    const Index end = begin + group * $width * ahead < columns ? begin + group * $width * ahead : columns;
    const Type *x = (const Type *)p.v[1] + at0;
    $out *out = ($out *)p.v[0] + i * columns;
    const long long target = (long long)((const $target *)p.v[2])[at1];
    const float sum = load(((const $sums *)p.v[3])[at2]);
    float share = load(((const $grad *)p.v[4])[at3]);
    const float more = load(((const $grads *)p.v[5])[at4]);
    const bool counted = target != $ignored;
    if constexpr ($mean) share = share / ((const float *)p.v[6])[0];
    if (!counted) share = 0.0f;
    const bool live = counted || more != 0.0f;
    const Index first = begin + threadIdx.x % group * W;
    float v[ahead * $width / W][W];
#pragma unroll
    for (int k = 0; k < ahead * $width / W; ++k) {
        const Index c = first + (Index)(k * group * W);
        if (c < end) read<W>(v[k], x + c);
    }
#pragma unroll
    for (int k = 0; k < ahead * $width / W; ++k) {
        const Index c = first + (Index)(k * group * W);
        if (c < end) {
#pragma unroll
            for (int e = 0; e < W; ++e) {
                v[k][e] = live ? expf(v[k][e] - sum) * (share + more) : 0.0f;
                if (c + e == target) v[k][e] -= share;
            }
            write<W>(out + c, v[k]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    if ($width > 1 && aligned<2>(p)) ${name}_piece<$width>(p);
    else ${name}_piece<1>(p);
}

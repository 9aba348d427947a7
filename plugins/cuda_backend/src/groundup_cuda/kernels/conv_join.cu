// Adds up the pieces of a convolution's results in their order, and the bias: one thread per result.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    const Index i = (Index)blockIdx.x * 256 + (Index)threadIdx.x, results = (Index)$results;
    if (i >= results) return;
$index
    const float *from = (const float *)p.v[1] + i;
    float sum = 0.0f;
#pragma unroll 8
    for (Index line = 0; line < (Index)$pieces; ++line) sum += from[line * results];
    if constexpr ($biased) sum += load(((const $type *)p.v[$last])[at0]);
    store((($type *)p.v[0])[i], sum);
}

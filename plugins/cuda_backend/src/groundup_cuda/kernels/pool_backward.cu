// Gradients of the pools: one thread per element of x adds up what the windows that hold it give,
// in the order of the windows.
//
// Bytes: dx and grad once, and for max_pool2d the places of the maxima, 4 each. 64 x 64 x 112 x 112 of
// float32 by 2 x 2: 308 MB, on an H100 (copy 3000 GB/s) no less than 103 us.

// The first window that holds padded place `at`, on one axis.
template <typename Index>
__device__ inline Index ${name}_first(Index at, Index kernel, Index stride) {
    return at < kernel ? (Index)0 : (at - kernel) / stride + 1;
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    const Index i = (Index)blockIdx.x * 256 + (Index)threadIdx.x;
    if (i >= (Index)$size) return;
$index
    const Index stride0 = (Index)$stride0, stride1 = (Index)$stride1;
    const Index kernel0 = (Index)$kernel0, kernel1 = (Index)$kernel1;
    const Index row = h + (Index)$padding0, column = w + (Index)$padding1;
    const Index high = (Index)$high, wide = (Index)$wide;
    const $type *grad = (const $type *)p.v[1] + at1;
    float sum = 0.0f;
    for (Index v = ${name}_first(row, kernel0, stride0); v < high && v * stride0 <= row; ++v) {
        for (Index u = ${name}_first(column, kernel1, stride1);
             u < wide && u * stride1 <= column; ++u) {
            const float given = load(grad[v * (Index)$row_step + u * (Index)$column_step]);
            sum += $share;
        }
    }
    store((($type *)p.v[0])[i], sum);
}

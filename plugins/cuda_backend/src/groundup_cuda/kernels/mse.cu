// The sum of (x - target)^2 of each block's elements; root.cu joins the blocks.
//
// Bytes: both operands once. 16 M of float32: 134 MB, on an H100 (reading, 3000 GB/s) no less than
// 45 us.

template <int W> __device__ inline float ${name}_block(const Parameters<$count> &p) {
    typedef $index_type Index;
    const $type *x = (const $type *)p.v[1], *target = (const $type *)p.v[2];
    float sum = 0.0f;
#pragma unroll 4
    for (int turn = 0; turn < $chunk / 256 / W; ++turn) {
        const Index i = (Index)blockIdx.x * $chunk + (turn * 256 + (int)threadIdx.x) * W;
        if (i < (Index)$size) {
            float a[W], b[W];
            read<W>(a, x + i);
            read<W>(b, target + i);
#pragma unroll
            for (int e = 0; e < W; ++e) sum += (a[e] - b[e]) * (a[e] - b[e]);
        }
    }
    return sum;
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    const float sum =
        $width > 1 && aligned<3>(p) ? ${name}_block<$width>(p) : ${name}_block<1>(p);
    const float all = total<256>(sum);
    if (threadIdx.x == 0) ((float *)p.v[0])[blockIdx.x] = all;
}

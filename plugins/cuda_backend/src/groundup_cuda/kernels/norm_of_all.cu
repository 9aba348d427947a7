// The sum of squares of many tensors, a number per block; `root.cu` adds them up. 16 bytes at a time.
//
// Bytes: all tensors once. 130M of float32: 520 MB, on an H100 (reading, 3000 GB/s) no less than
// 173 us.

template <int W> __device__ inline float ${name}_block(
    const $type *x, $index_type begin, $index_type size) {
    float sum = 0.0f;
#pragma unroll 4
    for (int turn = 0; turn < $chunk / 256 / W; ++turn) {
        const $index_type i = begin + (turn * 256 + (int)threadIdx.x) * W;
        if (i < size) {
            float v[W];
            read<W>(v, x + i);
#pragma unroll
            for (int e = 0; e < W; ++e) sum += v[e] * v[e];
        }
    }
    return sum;
}

extern "C" __global__ void __launch_bounds__(256) $name(
    const __grid_constant__ Parameters<$count> p) {
    typedef $index_type Index;
    constexpr int tensors = $tensors, sizes = 1 + tensors, starts = sizes + tensors;
    const int which = tensor_of<tensors, $bisection>(p, starts);
    const Index size = (Index)p.v[sizes + which];
    const Index begin = ((Index)blockIdx.x - (Index)p.v[starts + which]) * $chunk;
    const $type *x = (const $type *)p.v[1 + which];
    constexpr int wide = 16 / sizeof($type);
    const bool packed =
        (p.v[1 + which] & 15) == 0 && (begin + $chunk <= size || size % wide == 0);
    const float sum = packed ? ${name}_block<wide>(x, begin, size)
                             : ${name}_block<1>(x, begin, size);
    const float all = total<256>(sum);
    if (threadIdx.x == 0) ((float *)p.v[0])[$first + (Index)blockIdx.x] = all;
}

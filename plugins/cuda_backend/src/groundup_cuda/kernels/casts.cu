// Many tensors in another type, all in one launch: a block finds the tensor that its elements belong to
// by bisection. Loads and stores of up to 16 bytes, one element at a time where addresses or sizes do
// not allow that.
//
// Parameters: all outputs, all inputs, then all sizes and first blocks.
//
// Bytes: every element read and written once. 130M float32 to bfloat16: 780 MB, on an H100 (copy
// 3000 GB/s) no less than 260 us.

template <int W> __device__ inline void ${name}_block(
    $out *out, const $type *x, $index_type begin, $index_type size) {
#pragma unroll
    for (int turn = 0; turn < $chunk / 256 / W; ++turn) {
        const $index_type i = begin + (turn * 256 + (int)threadIdx.x) * W;
        if (i < size) {
            float v[W];
            read<W>(v, x + i);
            write<W>(out + i, v);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) $name(
    const __grid_constant__ Parameters<$count> p) {
    typedef $index_type Index;
    constexpr int tensors = $tensors, sizes = 2 * tensors, starts = sizes + tensors;
    const int which = tensor_of<tensors, $bisection>(p, starts);
    const Index size = (Index)p.v[sizes + which];
    const Index begin = ((Index)blockIdx.x - (Index)p.v[starts + which]) * $chunk;
    const long long both = p.v[which] | p.v[tensors + which];
    $out *out = ($out *)p.v[which];
    const $type *x = (const $type *)p.v[tensors + which];
    if ((both & 15) == 0 && (begin + $chunk <= size || size % $width == 0)) {
        ${name}_block<$width>(out, x, begin, size);
    } else {
        ${name}_block<1>(out, x, begin, size);
    }
}

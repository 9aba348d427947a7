// Matrix product, rung 3: tiles in shared memory. A block makes 16 x 16 numbers of out. Its threads
// bring 16 x 16 numbers of x and of y into shared memory together, wait for each other, and all of
// them use each number 16 times there. Zeros stand for what lies outside.
//
// The caches are read 16 times less often: for 4096 cubed in bfloat16 17 GB. But a load from shared
// memory takes its turn like one that the first cache serves, one of a warp in a cycle, and 16
// multiply-adds still take 20, though the compiler reads x four neighbours at a time: at most 1 / 5
// of the peak.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type T;
    constexpr int tile = 16;
    __shared__ float left[tile][tile], right[tile][tile];
    const Index rows = (Index)$rows, inner = (Index)$inner, columns = (Index)$columns;
    const Index wide = (columns + tile - 1) / tile;
    const int down = threadIdx.x / tile, along = threadIdx.x % tile;
    const Index row = (Index)blockIdx.x / wide * tile + down;
    const Index column = (Index)blockIdx.x % wide * tile + along;
    const T *x = (const T *)p.v[1], *y = (const T *)p.v[2];
    float sum = 0;
    for (Index from = 0; from < inner; from += tile) {
        left[down][along] =
            row < rows && from + along < inner ? load(x[row * inner + from + along]) : 0.0f;
        right[down][along] =
            from + down < inner && column < columns ? load(y[(from + down) * columns + column])
                                                    : 0.0f;
        __syncthreads();
#pragma unroll
        for (int k = 0; k < tile; ++k) sum += left[down][k] * right[k][along];
        __syncthreads();
    }
    if (row < rows && column < columns) store(((T *)p.v[0])[row * columns + column], sum);
}

// Adds up the lines of partial sums that blocks have left. A block takes $tile columns, 32 bytes of each
// line, and gives each of them to 256 / $tile threads, which have up to twelve lines under way at once:
// there is nothing to hide the latency behind, and it is all that this takes. Their sums are joined
// by a tree, always in the same order.

extern "C" __global__ void __launch_bounds__(256) $name(
    const __grid_constant__ Parameters<$count> p) {
    typedef $index_type Index;
    constexpr int wide = $tile, deep = 256 / wide, ahead = 12;
    __shared__ float parts[deep][wide + 1];
    const int along = threadIdx.x % wide, down = threadIdx.x / wide;
    const Index columns = (Index)$columns, lines = (Index)$lines;
    const Index tiles = (columns + wide - 1) / wide;
    const Index which = (Index)blockIdx.x / tiles;
    const Index column = (Index)blockIdx.x % tiles * wide + along;
    const float *from = (const float *)p.v[$vectors] + which * columns + column;
    float sum = 0.0f;
    for (Index first = down; first < lines; first += deep * ahead) {
        float v[ahead];
#pragma unroll
        for (int k = 0; k < ahead; ++k) {
            const Index line = first + k * deep;
            v[k] = column < columns && line < lines ? from[line * $vectors * columns] : 0.0f;
        }
#pragma unroll
        for (int k = 0; k < ahead; ++k) sum += v[k];
    }
    parts[down][along] = sum;
    __syncthreads();
#pragma unroll
    for (int step = deep / 2; step > 0; step /= 2) {
        if (down < step) parts[down][along] += parts[down + step][along];
        __syncthreads();
    }
    if (down == 0 && column < columns) store((($type *)p.v[which])[column], parts[0][along]);
}

// Adds up the lines of partial sums that blocks have left: eight threads per column, each every
// eighth line, then those eight in order.

extern "C" __global__ void __launch_bounds__(256) $name(
    const __grid_constant__ Parameters<$count> p) {
    typedef $index_type Index;
    __shared__ float parts[8][33];
    const int along = threadIdx.x % 32, down = threadIdx.x / 32;
    const Index columns = (Index)$columns, lines = (Index)$lines;
    const Index tiles = (columns + 31) / 32;
    const Index which = (Index)blockIdx.x / tiles;
    const Index column = (Index)blockIdx.x % tiles * 32 + along;
    const float *from = (const float *)p.v[$vectors] + which * columns + column;
    float sum = 0.0f;
    if (column < columns) {
#pragma unroll 8
        for (Index line = down; line < lines; line += 8) sum += from[line * $vectors * columns];
    }
    parts[down][along] = sum;
    __syncthreads();
    if (down == 0 && column < columns) {
#pragma unroll
        for (int k = 1; k < 8; ++k) sum += parts[k][along];
        store((($type *)p.v[which])[column], sum);
    }
}

// Matrix product, rung 6: tensor cores. A block makes 128 x 128 numbers, each of its 8 warps 64 x
// 32 of them by instructions that multiply 16 x 16 by 16 x 8 numbers of 16 bits and add up in
// float32. ldmatrix brings four 8 x 8 matrices from shared memory to the registers of a warp, those
// of y turned. The next tile is copied past the registers, by cp.async, while this one is
// multiplied.
//
// For 16 such instructions, 32768 multiply-adds, a warp loads 6 times. An H100's tensor cores do
// 990 TFLOP/s of bfloat16, 15 times what its float32 units do, so memory and barriers come back as
// limits: the two buffers here cover one tile's way from memory, and more would cover more. On an
// H100 all of that speed takes another instruction, wgmma, which reads shared memory itself, and
// copies by TMA.

$headers
// 8 numbers of a row of a matrix to shared memory, zeros for what lies outside.
template <typename T, typename Index>
__device__ inline void ${name}_bring(
    T *to, const T *from, Index row, Index column, Index rows, Index columns, bool whole
) {
    const bool inside = row < rows && column < columns;
    const T *start = inside ? from + row * columns + column : from;
    if (whole) {
        copy_16(to, start, inside);
    } else {
#pragma unroll
        for (int e = 0; e < 8; ++e) to[e].bits = inside && column + e < columns ? start[e].bits : 0;
    }
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type T;
    constexpr int tile = 128, depth = 32;
    // 8 unused numbers behind each row: the 8 rows that ldmatrix reads lie in different banks.
    __shared__ __align__(16) T left[2][tile][depth + 8], right[2][depth][tile + 8];
    const Index rows = (Index)$rows, inner = (Index)$inner, columns = (Index)$columns;
    const Index wide = (columns + tile - 1) / tile;
    const Index top = (Index)blockIdx.x / wide * tile, side = (Index)blockIdx.x % wide * tile;
    const T *x = (const T *)p.v[1], *y = (const T *)p.v[2];
    const bool whole_x = inner % 8 == 0, whole_y = columns % 8 == 0;
    const auto bring = [&](int buffer, Index from) {
#pragma unroll
        for (int n = threadIdx.x; n < tile * depth / 8; n += 256) {
            const int r = n / (depth / 8), k = n % (depth / 8) * 8;
            ${name}_bring<T, Index>(
                &left[buffer][r][k], x, top + r, from + k, rows, inner, whole_x);
        }
#pragma unroll
        for (int n = threadIdx.x; n < tile * depth / 8; n += 256) {
            const int k = n / (tile / 8), c = n % (tile / 8) * 8;
            ${name}_bring<T, Index>(
                &right[buffer][k][c], y, from + k, side + c, inner, columns, whole_y);
        }
    };
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int down = warp / 4 * 64, along = warp % 4 * 32;
    float sums[4][4][4] = {};
    int buffer = 0;
    bring(0, 0);
    for (Index from = 0; from < inner; from += depth) {
        wait_for_copies();
        __syncthreads();  // the tile is there, and nobody reads the other buffer any more
        if (from + depth < inner) bring(1 - buffer, from + depth);
#pragma unroll
        for (int k = 0; k < depth; k += 16) {
            u32 a[4][4], b[2][4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                load_matrices(a[i], &left[buffer][down + 16 * i + lane % 16][k + lane / 16 * 8]);
            }
#pragma unroll
            for (int j = 0; j < 2; ++j) {
                load_turned(b[j], &right[buffer][k + lane % 16][along + 16 * j + lane / 16 * 8]);
            }
#pragma unroll
            for (int i = 0; i < 4; ++i) {
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    multiply(T{}, sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
                }
            }
        }
        buffer = 1 - buffer;
    }
    // A lane has two neighbours in each of two rows of every 16 x 8 numbers.
#pragma unroll
    for (int n = 0; n < 32; ++n) {
        const float *pair = &sums[n / 8][n / 2 % 4][n % 2 * 2];
        const Index row = top + down + n / 8 * 16 + n % 2 * 8 + lane / 4;
        const Index column = side + along + n / 2 % 4 * 8 + lane % 4 * 2;
        T *to = (T *)p.v[0] + row * columns + column;
        if (row >= rows || column >= columns) continue;
        if (whole_y) {
            *(u32 *)to = pair_of(T{}, pair[0], pair[1]);
        } else {
            store(to[0], pair[0]);
            if (column + 1 < columns) store(to[1], pair[1]);
        }
    }
}

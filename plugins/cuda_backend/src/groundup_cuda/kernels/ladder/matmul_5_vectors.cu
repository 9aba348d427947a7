// Matrix product, rung 5: vectors, and two buffers. A thread brings 8 numbers of x and 8 of y in
// loads of 16 bytes, and reads what it multiplies from shared memory 4 numbers at a time: 4 loads
// serve 64 multiply-adds. The next tile is on its way to registers while this one is multiplied,
// and goes to the other of two buffers, so there is one barrier for a tile, and nobody waits for
// memory.
//
// What is left to hide is small; multiply-adds should be the limit: 67 TFLOP/s on an H100 at best,
// 2 ms for 4096 cubed. More needs other units: see rung 6.

// 8 numbers of a row of a matrix. `whole`: rows are whole packs, which lie inside or outside.
template <typename T, typename Index>
__device__ inline void ${name}_fetch(
    float (&to)[8], const T *from, Index row, Index column, Index rows, Index columns, bool whole
) {
    const bool inside = row < rows && column < columns;
    const T *start = from + row * columns + column;
#pragma unroll
    for (int e = 0; e < 8; ++e) to[e] = 0;
    if (whole && inside) {
        read<8>(to, start);
    } else if (inside) {
#pragma unroll
        for (int e = 0; e < 8; ++e) {
            if (column + e < columns) to[e] = load(start[e]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256, 2) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type T;
    constexpr int tile = 128, depth = 16;
    __shared__ __align__(16) float left[2][depth][tile + 4], right[2][depth][tile];
    const Index rows = (Index)$rows, inner = (Index)$inner, columns = (Index)$columns;
    const Index wide = (columns + tile - 1) / tile;
    const Index top = (Index)blockIdx.x / wide * tile, side = (Index)blockIdx.x % wide * tile;
    const T *x = (const T *)p.v[1], *y = (const T *)p.v[2];
    const bool whole_x = inner % 8 == 0, whole_y = columns % 8 == 0;
    // What this thread brings: part of a row of x's tile, and of y's.
    const int x_row = threadIdx.x / 2, x_k = threadIdx.x % 2 * 8;
    const int y_k = threadIdx.x / 16, y_column = threadIdx.x % 16 * 8;
    float next_x[8], next_y[8];
    const auto fetch = [&](Index from) {
        ${name}_fetch<T, Index>(next_x, x, top + x_row, from + x_k, rows, inner, whole_x);
        ${name}_fetch<T, Index>(next_y, y, from + y_k, side + y_column, inner, columns, whole_y);
    };
    const auto keep = [&](int buffer) {
#pragma unroll
        for (int e = 0; e < 8; ++e) left[buffer][x_k + e][x_row] = next_x[e];
        write<8>(&right[buffer][y_k][y_column], next_y);
    };
    // What it makes: rows 4 down to 4 down + 3 of both halves of the tile, and columns likewise.
    const int down = threadIdx.x / 16, along = threadIdx.x % 16;
    float sums[8][8] = {};
    fetch(0);
    keep(0);
    __syncthreads();
    int buffer = 0;
    for (Index from = 0; from < inner; from += depth) {
        const bool more = from + depth < inner;
        if (more) fetch(from + depth);
#pragma unroll
        for (int k = 0; k < depth; ++k) {
            float a[8], b[8];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                read<4>(a + 4 * half, &left[buffer][k][4 * down + 64 * half]);
                read<4>(b + 4 * half, &right[buffer][k][4 * along + 64 * half]);
            }
#pragma unroll
            for (int i = 0; i < 8; ++i) {
#pragma unroll
                for (int j = 0; j < 8; ++j) sums[i][j] += a[i] * b[j];
            }
        }
        buffer = 1 - buffer;
        if (more) keep(buffer);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const Index row = top + 4 * down + i % 4 + i / 4 * 64;
        if (row >= rows) break;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const Index column = side + 4 * along + 64 * half;
            T *to = (T *)p.v[0] + row * columns + column;
            if (whole_y && column < columns) {
                write<4>(to, sums[i] + 4 * half);
            } else {
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    if (column + j < columns) store(to[j], sums[i][4 * half + j]);
                }
            }
        }
    }
}

// Attention in float32 arithmetic, for all dtypes and all strides: tiles of 64 queries and 64 keys.
// 256 threads stand as 16 x 16; thread (down, along) holds the scores of queries 4 down + i and
// keys along + 16 j, and of results the columns 4 along + j of every 64. Both products read four
// numbers at a time from shared memory and use each four times, so arithmetic is the limit, not
// memory.
#ifndef ATTENTION_TILES
#define ATTENTION_TILES

constexpr int TILE = 64, STEP = 32, PAD = 4;

// Two strips of 64 rows and 32 columns, or one tile of 64 columns; and the weights of 64 x 64.
struct TileMemory {
    float strips[2][TILE][STEP + PAD];
    float weights[TILE][TILE + PAD];
};
typedef float Columns[TILE];
static_assert(sizeof(Columns) * TILE <= sizeof(TileMemory::strips), "a tile fits in the strips");

struct Place {
    int down, along;
    __device__ Place() : down(threadIdx.x / 16), along(threadIdx.x % 16) {}
    __device__ int query(int i) const { return 4 * down + i; }
    __device__ int key(int j) const { return along + 16 * j; }
};

// A matrix in memory: `rows` x `columns`, zeros outside.
template <typename T> struct Matrix {
    const T *start;
    long long row, column;
    int rows, columns;
    __device__ float at(int i, int j) const {
        return i >= 0 && i < rows && j < columns ? load(start[i * row + j * column]) : 0.0f;
    }
};

template <int wide, int stride, typename T>
__device__ inline void fill(float (*to)[stride], const Matrix<T> &from, int row, int column) {
    for (int n = threadIdx.x; n < TILE * wide; n += 256) {
        to[n / wide][n % wide] = from.at(row + n / wide, column + n % wide);
    }
}

// sums[i][j] = the product of row `row + query(i)` of x and row `other + key(j)` of y.
template <typename T>
__device__ inline void multiply_rows(
    float (&sums)[4][4], TileMemory &memory, const Matrix<T> &x, int row, const Matrix<T> &y,
    int other
) {
    const Place me;
    for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) sums[i][j] = 0;
    }
    for (int from = 0; from < x.columns; from += STEP) {
        __syncthreads();
        fill<STEP>(memory.strips[0], x, row, from);
        fill<STEP>(memory.strips[1], y, other, from);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < STEP; k += 4) {
            float4 left[4], right[4];
            for (int i = 0; i < 4; ++i) {
                left[i] = *(const float4 *)&memory.strips[0][me.query(i)][k];
                right[i] = *(const float4 *)&memory.strips[1][me.key(i)][k];
            }
            for (int i = 0; i < 4; ++i) {
                for (int j = 0; j < 4; ++j) {
                    sums[i][j] = fmaf(left[i].x, right[j].x, sums[i][j]);
                    sums[i][j] = fmaf(left[i].y, right[j].y, sums[i][j]);
                    sums[i][j] = fmaf(left[i].z, right[j].z, sums[i][j]);
                    sums[i][j] = fmaf(left[i].w, right[j].w, sums[i][j]);
                }
            }
        }
    }
}

// Results of 64 rows, 64 `parts` columns: this thread's are 4 rows and 4 columns of each part.
template <int parts> struct Sums {
    float4 of[parts][4];
    __device__ Sums() {
        for (int c = 0; c < parts; ++c) {
            for (int i = 0; i < 4; ++i) of[c][i] = make_float4(0, 0, 0, 0);
        }
    }
    __device__ void scale(int i, float by) {
        for (int c = 0; c < parts; ++c) {
            of[c][i].x *= by, of[c][i].y *= by, of[c][i].z *= by, of[c][i].w *= by;
        }
    }
    __device__ void add(int c, int i, float weight, float4 value) {
        of[c][i].x = fmaf(weight, value.x, of[c][i].x);
        of[c][i].y = fmaf(weight, value.y, of[c][i].y);
        of[c][i].z = fmaf(weight, value.z, of[c][i].z);
        of[c][i].w = fmaf(weight, value.w, of[c][i].w);
    }
    // Row `row + 4 down + i` of a row-major output.
    template <typename T> __device__ void write(T *out, int row, int rows, int columns, float by) {
        const Place me;
        for (int c = 0; c < parts; ++c) {
            for (int i = 0; i < 4; ++i) {
                const int at = row + me.query(i), column = 64 * c + 4 * me.along;
                if (at >= rows) continue;
                T *to = out + (long long)at * columns + column;
                const float4 x = of[c][i];
                if (column < columns) store(to[0], x.x * by);
                if (column + 1 < columns) store(to[1], x.y * by);
                if (column + 2 < columns) store(to[2], x.z * by);
                if (column + 3 < columns) store(to[3], x.w * by);
            }
        }
    }
};

// sums += W y, where W is memory.weights, or its transpose: rows `row` to `row + 63` of y.
template <bool turned, int parts, typename T>
__device__ inline void add_product(
    Sums<parts> &sums, TileMemory &memory, const Matrix<T> &y, int row
) {
    const Place me;
    float (*values)[TILE] = (float (*)[TILE]) & memory.strips;
#pragma unroll
    for (int c = 0; c < parts; ++c) {
        __syncthreads();
        fill<TILE>(values, y, row, 64 * c);
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < TILE; k += 4) {
            float4 weight[4];  // for rows i, of four k; or of four k, for rows i
            for (int i = 0; i < 4; ++i) {
                weight[i] = *(const float4 *)(turned ? &memory.weights[k + i][4 * me.down]
                                                     : &memory.weights[me.query(i)][k]);
            }
            for (int n = 0; n < 4; ++n) {
                const float4 value = *(const float4 *)&values[k + n][4 * me.along];
                for (int i = 0; i < 4; ++i) {
                    const float4 w = weight[turned ? n : i];
                    const int which = turned ? i : n;
                    sums.add(
                        c, i,
                        which == 0   ? w.x
                        : which == 1 ? w.y
                        : which == 2 ? w.z
                                     : w.w,
                        value
                    );
                }
            }
        }
    }
}

// Over the 16 threads that share a query.
__device__ inline float largest_along(float x) {
    for (int step = 8; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
    return x;
}
__device__ inline float sum_along(float x) {
    for (int step = 8; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

#endif

// Attention on tensor cores: tiles in shared memory, fragments in registers.
//
// A row of a tile is followed by 16 unused bytes, so that the eight rows that ldmatrix reads at a
// time lie in different banks, and every address is a constant away from one that the thread
// keeps.
#ifndef ATTENTION_FRAGMENTS
#define ATTENTION_FRAGMENTS

constexpr float LOG2_E = 1.4426950408889634f;

// A matrix of 16-bit numbers in memory; what lies outside counts as zero.
template <typename T> struct Source {
    const T *start;
    long long row, column;
    int rows, columns;
    // Whether every 8 numbers of a row can be copied at once.
    __device__ bool whole() const {
        return column == 1 && columns % 8 == 0 && row % 8 == 0 && (u64)start % 16 == 0;
    }
    __device__ u32 bits(int i, int j) const {
        return i < rows && j < columns ? start[i * row + j * column].bits : 0u;
    }
    __device__ u32 pair(int i, int j) const { return bits(i, j) | bits(i, j + 1) << 16; }
};

template <typename T, int rows, int columns, int threads> struct Tile {
    static constexpr int stride = columns + 8, bytes = rows * stride * 2;
    T *start;
    __device__ explicit Tile(unsigned char *memory) : start((T *)memory) {}
    __device__ T *at(int row, int column) const { return start + row * stride + column; }

    // Rows `first` and on of a matrix: in the background, or one number after the other where
    // memory does not allow it.
    __device__ void fill(const Source<T> &from, int first, bool whole) const {
        constexpr int chunks = columns / 8,
                      each = threads / chunks;  // rows that are copied at a time
        if (whole && threads % chunks == 0) {
            const int r = threadIdx.x / chunks, c = threadIdx.x % chunks * 8;
            const int left = c < from.columns ? from.rows - first - r : 0;
            const T *next = from.start + (first + r) * from.row + c;
#pragma unroll
            for (int done = 0; done < rows; done += each) {
                if (rows % each == 0 || r + done < rows)
                    copy_16(at(r + done, c), next, done < left);
                next += each * from.row;
            }
        } else if (whole) {
#pragma unroll
            for (int n = threadIdx.x; n < rows * chunks; n += threads) {
                const int r = n / chunks, c = n % chunks * 8, row = first + r;
                const bool live = row < from.rows && c < from.columns;
                copy_16(at(r, c), live ? from.start + row * from.row + c : from.start, live);
            }
        } else {
#pragma unroll 1
            for (int n = threadIdx.x; n < rows * columns; n += threads) {
                at(n / columns, n % columns)->bits = from.bits(first + n / columns, n % columns);
            }
        }
    }
    // Where a lane reads for `right` and `right_turned`.
    __device__ const T *rows_of(int lane) const {
        return at(lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8);
    }
    __device__ const T *columns_of(int lane) const { return at(lane % 16, lane / 16 * 8); }
};

// The right operand of two products, from a tile whose rows are the columns of that operand.
template <typename Tile, typename T>
__device__ inline void right(u32 (&b)[4], const T *lane, int row, int column) {
    load_matrices(b, lane + row * Tile::stride + column);
}
// The same from a tile that is that operand.
template <typename Tile, typename T>
__device__ inline void right_turned(u32 (&b)[4], const T *lane, int row, int column) {
    load_turned(b, lane + row * Tile::stride + column);
}

// The left operand: 16 rows from `row` on of a matrix, straight from memory.
template <int steps, typename T>
__device__ inline void load_left(u32 (&a)[steps][4], const Source<T> &from, int row, bool whole) {
    const int lane = threadIdx.x % 32, top = row + lane / 4, column = lane % 4 * 2;
    if (whole) {
        const T *start = from.start + top * from.row + column;
        const int most[2] = {
            top < from.rows ? from.columns - column : 0,
            top + 8 < from.rows ? from.columns - column : 0
        };
#pragma unroll
        for (int n = 0; n < 4 * steps; ++n) {
            const T *here = start + n % 2 * 8 * from.row;
            a[n / 4][n % 4] = n / 2 * 8 < most[n % 2] ? *(const u32 *)(here + n / 2 * 8) : 0u;
        }
    } else {
#pragma unroll
        for (int n = 0; n < 4 * steps; ++n) {
            a[n / 4][n % 4] = from.pair(top + n % 2 * 8, n / 2 * 8 + column);
        }
    }
}

// Results of 16 x 16 become a left operand.
template <typename T>
__device__ inline void as_left(u32 (&a)[4], const float (&c)[4], const float (&next)[4]) {
    a[0] = pair_of(T{}, c[0], c[1]), a[1] = pair_of(T{}, c[2], c[3]);
    a[2] = pair_of(T{}, next[0], next[1]), a[3] = pair_of(T{}, next[2], next[3]);
}

template <int count> __device__ inline void clear(float (&c)[count][4]) {
#pragma unroll
    for (int n = 0; n < count; ++n) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
}

// sums += left x right: 16 rows; the tile's rows `row` to `row + 8 count` are the result's
// columns.
template <typename Tile, typename T, int steps, int count>
__device__ inline void add_rows_product(
    float (&sums)[count][4], const u32 (&left)[steps][4], const T *lane, int row
) {
#pragma unroll
    for (int k = 0; k < steps; ++k) {
#pragma unroll
        for (int n = 0; n < count; n += 2) {
            u32 b[4];
            right<Tile>(b, lane, row + 8 * n, 16 * k);
            multiply(T{}, sums[n], left[k], b[0], b[1]);
            multiply(T{}, sums[n + 1], left[k], b[2], b[3]);
        }
    }
}

// The same with 16 rows of a tile on the left, by the address that a lane has from `columns_of`.
template <typename Tile, int steps, typename T, int count>
__device__ inline void add_tiles_product(
    float (&sums)[count][4], const T *left, const T *lane, int row
) {
#pragma unroll
    for (int k = 0; k < steps; ++k) {
        u32 a[4];
        load_matrices(a, left + 16 * k);
#pragma unroll
        for (int n = 0; n < count; n += 2) {
            u32 b[4];
            right<Tile>(b, lane, row + 8 * n, 16 * k);
            multiply(T{}, sums[n], a, b[0], b[1]);
            multiply(T{}, sums[n + 1], a, b[2], b[3]);
        }
    }
}

// sums += weights x tile: weights 16 x 8 `depth` as results of a product, for rows `row` and on.
template <typename Tile, typename T, int depth, int count>
__device__ inline void add_weighted(
    float (&sums)[count][4], const float (&weights)[depth][4], const T *lane, int row
) {
#pragma unroll
    for (int k = 0; k < depth; k += 2) {
        u32 a[4];
        as_left<T>(a, weights[k], weights[k + 1]);
#pragma unroll
        for (int n = 0; n < count; n += 2) {
            u32 b[4];
            right_turned<Tile>(b, lane, row + 8 * k, 8 * n);
            multiply(T{}, sums[n], a, b[0], b[1]);
            multiply(T{}, sums[n + 1], a, b[2], b[3]);
        }
    }
}

// Writes 16 rows of results, from `row` on, to a row-major output; `columns` are even.
template <typename T, int count>
__device__ inline void write_rows(
    T *out, const float (&sums)[count][4], int row, int rows, int columns, float upper,
    float lower
) {
    const int lane = threadIdx.x % 32, top = row + lane / 4;
#pragma unroll
    for (int n = 0; n < count; ++n) {
        const int column = 8 * n + lane % 4 * 2;
        if (column >= columns) continue;
        T *to = out + (long long)top * columns + column;
        if (top < rows) *(u32 *)to = pair_of(T{}, sums[n][0] * upper, sums[n][1] * upper);
        if (top + 8 < rows) {
            *(u32 *)(to + 8ll * columns) = pair_of(T{}, sums[n][2] * lower, sums[n][3] * lower);
        }
    }
}

// Products of q and k become -infinity where a query must not look. With a mask they become
// powers of two besides; without one they are left as they are.
template <bool causal, typename M, typename At>
__device__ inline void hide(float (&scores)[4], const Attention &a, const Mask<M> &mask, At at) {
    constexpr bool plain = Same<M, None>::value;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float score = plain ? scores[i] : scores[i] * a.scale;
        const float found = seen<causal>(a, mask, score, at.query(i), at.key(i));
        scores[i] = plain ? found : found * LOG2_E;
    }
}
// Keeps the compiler from doing what a branch skips and choosing afterwards.
__device__ inline void seldom() { asm volatile(""); }

// Scores of one row become weights, 2^(unit (score - largest)): elements `first` and the next of
// every four. `top` and `total`, the largest score and the lane's own sum of weights, are brought
// up to date. Returns what earlier sums are to be multiplied by.
template <int count>
__device__ inline float weights_of(
    float (&scores)[count][4], int first, float &top, float &total, float unit
) {
    float high = top;
#pragma unroll
    for (int n = 0; n < count; ++n)
        high = fmaxf(high, fmaxf(scores[n][first], scores[n][first + 1]));
    high = fmaxf(high, __shfl_xor_sync(~0u, high, 1));
    high = fmaxf(high, __shfl_xor_sync(~0u, high, 2));
    const float base = high == -infinity() ? 0.0f : high * unit;
    const float before = top == high ? 1.0f : power_of_two(fmaf(top, unit, -base));
    float sum = 0;
#pragma unroll
    for (int n = 0; n < count; ++n) {
#pragma unroll
        for (int i = first; i < first + 2; ++i) {
            scores[n][i] = power_of_two(fmaf(scores[n][i], unit, -base));
            sum += scores[n][i];
        }
    }
    total = fmaf(total, before, sum);
    top = high;
    return before;
}

// Which of a lane's four results dropout keeps, as bits. Philox makes the words of four
// neighbouring keys at once: lanes that share them make one block each and swap words.
template <bool drops, typename Find>
__device__ inline u32 kept_one_by_one(
    const Dropout<drops> &dropout, const Attention &a, const Head &head, Find find
) {
    u32 kept = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i)
        kept |= (u32)dropout.keeps(a, head, find.query(i), find.key(i)) << i;
    return kept;
}

// Results of queries (rows, from `query` on) and keys (columns, from `key` on).
struct QueryRows {
    int top, left;
    __device__ QueryRows(int query, int key)
        : top(query + (int)(threadIdx.x % 32) / 4), left(key + (int)(threadIdx.x % 4) * 2) {}
    __device__ int query(int i) const { return top + i / 2 * 8; }
    __device__ int key(int i) const { return left + i % 2; }
};
// Results of keys (rows) and queries (columns).
struct KeyRows {
    int top, left;
    __device__ KeyRows(int key, int query)
        : top(key + (int)(threadIdx.x % 32) / 4), left(query + (int)(threadIdx.x % 4) * 2) {}
    __device__ int query(int i) const { return left + i % 2; }
    __device__ int key(int i) const { return top + i / 2 * 8; }
};

template <bool drops>
__device__ inline u64 block_of(const Attention &a, const Head &head, int query, int key) {
    return (((u64)head.place * a.queries + query) * a.keys + key) / 4;
}

template <bool drops>
__device__ inline u32 kept_of(
    const Dropout<drops> &dropout, const Attention &a, const Head &head, QueryRows at
) {
    if (!drops) return 15;
    if (a.keys % 4) return kept_one_by_one(dropout, a, head, at);
    const bool odd = threadIdx.x % 2;  // the even lane makes the upper row's block
    const Draw4 w =
        philox(dropout.state, block_of<drops>(a, head, at.query(odd ? 2 : 0), at.left - 2 * odd));
    const u32 first = __shfl_xor_sync(~0u, odd ? w.a : w.c, 1);
    const u32 second = __shfl_xor_sync(~0u, odd ? w.b : w.d, 1);
    const u32 word[4] = {
        odd ? first : w.a, odd ? second : w.b, odd ? w.c : first, odd ? w.d : second
    };
    u32 kept = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) kept |= (u32)(word[i] >> 8 >= a.dropped) << i;
    return kept;
}

template <bool drops>
__device__ inline u32 kept_of(
    const Dropout<drops> &dropout, const Attention &a, const Head &head, KeyRows at
) {
    if (!drops) return 15;
    if (a.keys % 4) return kept_one_by_one(dropout, a, head, at);
    const u32 mine = threadIdx.x / 4 % 4;  // of the four lanes at neighbouring keys
    const Draw4 w = philox(
        dropout.state,
        block_of<drops>(
            a, head, at.left + (int)(mine % 2), at.top - (int)mine + (int)(mine / 2) * 8
        )
    );
    u32 kept = (u32)(w.at(mine) >> 8 >= a.dropped) << mine;
#pragma unroll
    for (u32 other = 1; other < 4; ++other) {
        const u32 word = __shfl_xor_sync(~0u, w.at(mine ^ other), 4 * other);
        kept |= (u32)(word >> 8 >= a.dropped) << (mine ^ other);
    }
    return kept;
}

#endif

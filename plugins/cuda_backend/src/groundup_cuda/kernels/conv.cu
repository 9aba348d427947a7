// A convolution or one of its gradients as a matrix product, left @ right, in which right is never
// written out: its element (k, c) is the one of the image that tap and window meet at, or 0. Tiles of
// 64 x 64 results, 4 x 4 a thread in registers; tiles of 16 steps of the inner axis in shared memory,
// the next of which is under way while this one is multiplied. The places of taps are worked out once
// for all columns, two tiles ahead.
//
// With $gaps (the transposed convolution) a tap that meets nothing is skipped, not multiplied by 0: a
// weight may be infinite. That is looked at only where a tile of the weight has such a number.
//
// Arithmetic: 2 x results x inner. 32 x 256 x 28 x 28 by 256 x 256 x 3 x 3: 29.6 GFLOP, on an H100
// (67 TFLOP/s of float32) no less than 0.44 ms.
$places
extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type Type;
    constexpr int tile = 64, deep = 16;
    constexpr bool gaps = $gaps;
    __shared__ __align__(16) float left[deep][tile + 4], right[deep][tile + 4];
    __shared__ bool met[gaps ? deep : 1][tile];
    __shared__ Index steps[2][deep][3];
    const Index rows = (Index)$rows, columns = (Index)$columns, inner = (Index)$inner;
    const Index high = (rows + tile - 1) / tile, wide = (columns + tile - 1) / tile;
    const Index pieces = (Index)$pieces, piece = (Index)$piece;
    const Index block = (Index)blockIdx.x, first_row = block % high * tile;
    const Index first_column = block / high % wide * tile;
    const Index which = block / (high * wide) % pieces, group = block / (high * wide * pieces);
    const Index begin = which * piece, end = begin + piece < inner ? begin + piece : inner;

    // What this thread reads: four rows of one k, and of one column four of k.
    const int left_k = threadIdx.x % deep, left_row = threadIdx.x / deep;
    const int right_k = threadIdx.x / tile, right_column = threadIdx.x % tile;
    const Type *a = (const Type *)p.v[1] + group * (Index)$left_group;
    const Type *b = (const Type *)p.v[2] + group * (Index)$right_group;
    const Index c = first_column + right_column;
$column
    const auto tabulate = [&](Index from, int turn) {
        if (threadIdx.x >= deep) return;
        const Index k = from + threadIdx.x;
$right_inner
        steps[turn][threadIdx.x][0] = place_k;
        steps[turn][threadIdx.x][1] = row_k;
        steps[turn][threadIdx.x][2] = column_k;
    };
    float next_left[4], next_right[4];
    u32 next_met = 0;  // bit m: whether next_right[m] is an element of the image
    const auto fetch = [&](Index from, int turn) {
        {
            const Index k = from + left_k;
$left_inner
#pragma unroll
            for (int m = 0; m < 4; ++m) {
                const Index row = first_row + left_row + m * deep;
                const bool inside = k < end && row < rows;
                next_left[m] = inside ? load(a[row * (Index)$left_row + left_at]) : 0.0f;
            }
        }
        next_met = 0;
#pragma unroll
        for (int m = 0; m < 4; ++m) {
            const int k = right_k + m * 4;
            Index at0 = row_c + steps[turn][k][1] + (Index)$shift0;
            Index at1 = column_c + steps[turn][k][2] + (Index)$shift1;
            const bool inside = from + k < end && c < columns &&
                                meets<gaps>(at0, (Index)$stride0, (Index)$size0) &&
                                meets<gaps>(at1, (Index)$stride1, (Index)$size1);
            next_met |= (u32)inside << m;
            const Index place =
                place_c + steps[turn][k][0] + at0 * (Index)$step0 + at1 * (Index)$step1;
            next_right[m] = inside ? load(b[place]) : 0.0f;
        }
    };

    const int down = threadIdx.x / 16 * 4, along = threadIdx.x % 16 * 4;
    float sums[4][4] = {};
    tabulate(begin, 0);
    tabulate(begin + deep, 1);
    __syncthreads();
    if (begin < end) fetch(begin, 0);
    int turn = 0;
    for (Index from = begin; from < end; from += deep, turn ^= 1) {
        bool strange = false;
#pragma unroll
        for (int m = 0; m < 4; ++m) {
            left[left_k][left_row + m * deep] = next_left[m];
            right[right_k + m * 4][right_column] = next_right[m];
            if constexpr (gaps) {
                met[right_k + m * 4][right_column] = next_met >> m & 1;
                strange |= !(next_left[m] - next_left[m] == 0.0f);
            }
        }
        if constexpr (gaps) strange = __syncthreads_or(strange);
        else __syncthreads();
        tabulate(from + 2 * deep, turn);  // in the place of the one that was read before
        if (from + deep < end) fetch(from + deep, turn ^ 1);
        if (strange) {
            for (int k = 0; k < deep; ++k) {
                for (int y = 0; y < 4; ++y) {
                    for (int x = 0; x < 4; ++x) {
                        if (met[gaps ? k : 0][along + x]) {
                            sums[y][x] =
                                fmaf(left[k][down + y], right[k][along + x], sums[y][x]);
                        }
                    }
                }
            }
        } else {
#pragma unroll
            for (int k = 0; k < deep; ++k) {
                float l[4], r[4];
                read<4>(l, &left[k][down]);
                read<4>(r, &right[k][along]);
#pragma unroll
                for (int y = 0; y < 4; ++y) {
#pragma unroll
                    for (int x = 0; x < 4; ++x) sums[y][x] = fmaf(l[y], r[x], sums[y][x]);
                }
            }
        }
        __syncthreads();
    }

    $out *out = ($out *)p.v[0] + which * (Index)$results + group * (Index)$out_group;
#pragma unroll
    for (int x = 0; x < 4; ++x) {
        const Index c = first_column + along + x;
        if (c >= columns) break;
$out_column
#pragma unroll
        for (int y = 0; y < 4; ++y) {
            const Index row = first_row + down + y;
            if (row >= rows) break;
            float value = sums[y][x];
            if constexpr ($biased) {
                const Type *bias = (const Type *)p.v[$last];
                value += load(bias[(group * rows + row) * (Index)$bias_step]);
            }
            store(out[row * (Index)$out_row + out_at], value);
        }
    }
}

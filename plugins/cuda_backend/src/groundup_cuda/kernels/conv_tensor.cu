// The product of conv.cu for 16-bit floats on tensor cores: tiles of 64 x 128 results, 32 x 32 a warp
// in registers, of which 32 steps of the inner axis at a time lie in shared memory. The places of taps
// are worked out once for all columns, two tiles ahead.
//
// Arithmetic: 2 x results x inner. 32 x 256 x 28 x 28 by 256 x 256 x 3 x 3: 29.6 GFLOP, on an H100
// (989 TFLOP/s) no less than 30 us.
$cores
$places
extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type Type;
    constexpr int tall = 64, broad = 128, deep = 32;
    constexpr bool gaps = $gaps;
    __shared__ __align__(16) Type left[tall][deep + 8], right[deep][broad + 8];
    __shared__ bool met[gaps ? deep : 1][broad];
    __shared__ Index steps[2][deep][3];
    const Index rows = (Index)$rows, columns = (Index)$columns, inner = (Index)$inner;
    const Index high = (rows + tall - 1) / tall, wide = (columns + broad - 1) / broad;
    const Index pieces = (Index)$pieces, piece = (Index)$piece;
    const Index block = (Index)blockIdx.x, first_row = block % high * tall;
    const Index first_column = block / high % wide * broad;
    const Index which = block / (high * wide) % pieces, group = block / (high * wide * pieces);
    const Index begin = which * piece, end = begin + piece < inner ? begin + piece : inner;

    // What this thread reads: eight rows of one k, and of one column sixteen of k.
    const int left_k = threadIdx.x % deep, left_row = threadIdx.x / deep;
    const int right_k = threadIdx.x / broad, right_column = threadIdx.x % broad;
    const Type *a = (const Type *)p.v[1] + group * (Index)$left_group, zero = {0};
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
    Type next_left[8], next_right[16];
    u32 next_met = 0;  // bit m: whether next_right[m] is an element of the image
    const auto fetch = [&](Index from, int turn) {
        {
            const Index k = from + left_k;
$left_inner
#pragma unroll
            for (int m = 0; m < 8; ++m) {
                const Index row = first_row + left_row + m * 8;
                const bool inside = k < end && row < rows;
                next_left[m] = inside ? a[row * (Index)$left_row + left_at] : zero;
            }
        }
        next_met = 0;
#pragma unroll
        for (int m = 0; m < 16; ++m) {
            const int k = right_k + m * 2;
            Index at0 = row_c + steps[turn][k][1] + (Index)$shift0;
            Index at1 = column_c + steps[turn][k][2] + (Index)$shift1;
            const bool inside = from + k < end && c < columns &&
                                meets<gaps>(at0, (Index)$stride0, (Index)$size0) &&
                                meets<gaps>(at1, (Index)$stride1, (Index)$size1);
            next_met |= (u32)inside << m;
            const Index place =
                place_c + steps[turn][k][0] + at0 * (Index)$step0 + at1 * (Index)$step1;
            next_right[m] = inside ? b[place] : zero;
        }
    };

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int down = warp / 4 * 32, along = warp % 4 * 32;
    float sums[2][4][4] = {};
    tabulate(begin, 0);
    tabulate(begin + deep, 1);
    __syncthreads();
    if (begin < end) fetch(begin, 0);
    int turn = 0;
    for (Index from = begin; from < end; from += deep, turn ^= 1) {
        bool strange = false;
#pragma unroll
        for (int m = 0; m < 8; ++m) {
            left[left_row + m * 8][left_k] = next_left[m];
            if constexpr (gaps) strange |= !(load(next_left[m]) - load(next_left[m]) == 0.0f);
        }
#pragma unroll
        for (int m = 0; m < 16; ++m) {
            right[right_k + m * 2][right_column] = next_right[m];
            if constexpr (gaps) met[right_k + m * 2][right_column] = next_met >> m & 1;
        }
        if constexpr (gaps) strange = __syncthreads_or(strange);
        else __syncthreads();
        tabulate(from + 2 * deep, turn);  // in the place of the one that was read before
        if (from + deep < end) fetch(from + deep, turn ^ 1);
        if (strange) {
            for (int e = 0; e < 32; ++e) {
                const int y = e / 16, x = e / 4 % 4, row = down + y * 16 + lane / 4 + e / 2 % 2 * 8;
                const int column = along + x * 8 + lane % 4 * 2 + e % 2;
                for (int k = 0; k < deep; ++k) {
                    if (!met[gaps ? k : 0][column]) continue;
                    // Registers have no addresses, so each is asked whether it is the one.
#pragma unroll
                    for (int at = 0; at < 32; ++at) {
                        float &sum = sums[at / 16][at / 4 % 4][at % 4];
                        if (at == e) sum = fmaf(load(left[row][k]), load(right[k][column]), sum);
                    }
                }
            }
        } else {
#pragma unroll
            for (int k = 0; k < deep; k += 16) {
                u32 l[2][4];
#pragma unroll
                for (int y = 0; y < 2; ++y) {
                    load_matrices(l[y], &left[down + y * 16 + lane % 16][k + lane / 16 * 8]);
                }
#pragma unroll
                for (int x = 0; x < 4; x += 2) {
                    u32 r[4];
                    load_turned(r, &right[k + lane % 16][along + x * 8 + lane / 16 * 8]);
#pragma unroll
                    for (int y = 0; y < 2; ++y) {
                        multiply(zero, sums[y][x], l[y], r[0], r[1]);
                        multiply(zero, sums[y][x + 1], l[y], r[2], r[3]);
                    }
                }
            }
        }
        __syncthreads();
    }

    $out *out = ($out *)p.v[0] + which * (Index)$results + group * (Index)$out_group;
#pragma unroll
    for (int x = 0; x < 8; ++x) {
        const Index c = first_column + along + x / 2 * 8 + lane % 4 * 2 + x % 2;
        if (c >= columns) continue;
$out_column
#pragma unroll
        for (int y = 0; y < 4; ++y) {
            const Index row = first_row + down + y / 2 * 16 + y % 2 * 8 + lane / 4;
            if (row >= rows) continue;
            float value = sums[y / 2][x / 2][y % 2 * 2 + x % 2];
            if constexpr ($biased) {
                const Type *bias = (const Type *)p.v[$last];
                value += load(bias[(group * rows + row) * (Index)$bias_step]);
            }
            store(out[row * (Index)$out_row + out_at], value);
        }
    }
}

// softmax(q k^T scale + mask) v and each row's logsumexp on tensor cores (Dao,
// "FlashAttention-2", 2023). A warp has 16 or 32 queries, whose scores never leave its registers:
// results of q k^T are the left operand of the product with v, rounded to v's dtype. While a tile
// of keys and values is used, a slice at a time, the next one is copied. Powers of two, so that
// scale, maximum and base are one multiply-add. Slices that none of a warp's queries sees are not
// visited, and sums are only rescaled where a maximum grew.

$headers
extern "C" __global__ void __launch_bounds__($block_threads, $resident) $name(
    const Parameters<$count> p
) {
    typedef $type T;
    typedef $mask M;
    constexpr bool causal = $causal, drops = $drops;
    constexpr int size = $size, width = $width, rows = $rows, keys = $keys, slice = $slice;
    constexpr int threads = $block_threads;
    constexpr bool held = $held;  // queries in registers; else in shared memory, behind the tiles
    typedef Tile<T, keys, size, threads> Keys;
    typedef Tile<T, keys, width, threads> Values;
    extern __shared__ __align__(16) unsigned char memory[];
    const Attention a = {$attention};
    const Strides in_q = {$q_strides}, in_k = {$k_strides}, in_v = {$v_strides};
    const Mask<M> every = {$mask_operand};
    const Dropout<drops> dropout($state_operand);

    constexpr int block = rows * 16 * threads / 32, stage = Keys::bytes + Values::bytes;
    typedef Tile<T, block, size, threads> Queries;
    const int tiles = (a.queries + block - 1) / block;
    const int begin =
        (tiles - 1 - (int)(blockIdx.x % tiles)) * block;  // those that see most go first
    const Head head = head_of(a, blockIdx.x / tiles);
    const Mask<M> mask = every.of(head);
    const Source<T> q = {
        (const T *)p.v[2] + in_q.at(head.batch, head.query), in_q.row, in_q.column, a.queries,
        a.size
    };
    const Source<T> k = {
        (const T *)p.v[3] + in_k.at(head.batch, head.key), in_k.row, in_k.column, a.keys, a.size
    };
    const Source<T> v = {
        (const T *)p.v[4] + in_v.at(head.batch, head.key), in_v.row, in_v.column, a.keys, a.width
    };
    const bool whole_k = k.whole(), whole_v = v.whole(), whole_q = q.whole();
    const int lane = threadIdx.x % 32, first = begin + (int)threadIdx.x / 32 * 16 * rows;
    const int end = last_key<causal>(a, begin + block < a.queries ? begin + block : a.queries);
    const auto fetch = [&](int from) {
        unsigned char *to = memory + (from / keys % 2) * stage;
        Keys(to).fill(k, from, whole_k);
        Values(to + Keys::bytes).fill(v, from, whole_v);
    };
    if (end > 0) fetch(0);

    u32 queries[rows][held ? size / 16 : 1][4];
    float out[rows][width / 8][4], top[rows][2], total[rows][2];
    const Queries own(memory + 2 * stage);
    if (!held) own.fill(q, begin, whole_q);
    const T *query_lane = own.columns_of(lane) + (first - begin) * Queries::stride;
#pragma unroll
    for (int m = 0; m < rows; ++m) {
        if (held) load_left(queries[m], q, first + 16 * m, whole_q);
        clear(out[m]);
        top[m][0] = top[m][1] = -infinity(), total[m][0] = total[m][1] = 0;
    }
    // Scores are kept in units of `unit` powers of two; with a mask they are powers already.
    constexpr bool plain = Same<M, None>::value;
    const float unit = plain ? a.scale * LOG2_E : 1.0f;

    for (int tile = 0; tile < end; tile += keys) {
        wait_for_copies();
        __syncthreads();
        if (tile + keys < end) fetch(tile + keys);
        unsigned char *here = memory + (tile / keys % 2) * stage;
        const T *key_lane = Keys(here).rows_of(lane);
        const T *value_lane = Values(here + Keys::bytes).columns_of(lane);
#pragma unroll 1
        for (int along = 0; along < keys; along += slice) {
            const int from = tile + along;
            if (causal && from > first + 16 * rows - 1 + a.offset) break;
            float scores[rows][slice / 8][4];
#pragma unroll
            for (int m = 0; m < rows; ++m) clear(scores[m]);
#pragma unroll
            for (int step = 0; step < size / 16; ++step) {
                if (!held) {
#pragma unroll
                    for (int m = 0; m < rows; ++m) {
                        load_matrices(
                            queries[m][0], query_lane + 16 * m * Queries::stride + 16 * step
                        );
                    }
                }
#pragma unroll
                for (int n = 0; n < slice / 8; n += 2) {
                    u32 b[4];
                    right<Keys>(b, key_lane, along + 8 * n, 16 * step);
#pragma unroll
                    for (int m = 0; m < rows; ++m) {
                        multiply(T{}, scores[m][n], queries[m][held ? step : 0], b[0], b[1]);
                        multiply(T{}, scores[m][n + 1], queries[m][held ? step : 0], b[2], b[3]);
                    }
                }
            }
            // Only slices at an edge, or under a mask, need a look at each score.
            if (!plain || from + slice > a.keys ||
                (causal && from + slice - 1 > first + a.offset)) {
                seldom();
#pragma unroll
                for (int m = 0; m < rows; ++m) {
#pragma unroll
                    for (int n = 0; n < slice / 8; ++n) {
                        hide<causal>(
                            scores[m][n], a, mask, QueryRows(first + 16 * m, from + 8 * n)
                        );
                    }
                }
            }
#pragma unroll
            for (int m = 0; m < rows; ++m) {
                float before[2];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    before[half] =
                        weights_of(scores[m], 2 * half, top[m][half], total[m][half], unit);
                }
                if (__any_sync(~0u, before[0] != 1.0f || before[1] != 1.0f)) {
#pragma unroll
                    for (int n = 0; n < width / 8; ++n) {
                        out[m][n][0] *= before[0], out[m][n][1] *= before[0];
                        out[m][n][2] *= before[1], out[m][n][3] *= before[1];
                    }
                }
                if (drops) {
#pragma unroll
                    for (int n = 0; n < slice / 8; ++n) {
                        const QueryRows at(first + 16 * m, from + 8 * n);
                        const u32 kept = kept_of(dropout, a, head, at);
#pragma unroll
                        for (int i = 0; i < 4; ++i) {
                            scores[m][n][i] = kept >> i & 1 ? scores[m][n][i] : 0.0f;
                        }
                    }
                }
            }
#pragma unroll
            for (int step = 0; step < slice / 8; step += 2) {
                u32 weights[rows][4];
#pragma unroll
                for (int m = 0; m < rows; ++m) {
                    as_left<T>(weights[m], scores[m][step], scores[m][step + 1]);
                }
#pragma unroll
                for (int n = 0; n < width / 8; n += 2) {
                    u32 b[4];
                    right_turned<Values>(b, value_lane, along + 8 * step, 8 * n);
#pragma unroll
                    for (int m = 0; m < rows; ++m) {
                        multiply(T{}, out[m][n], weights[m], b[0], b[1]);
                        multiply(T{}, out[m][n + 1], weights[m], b[2], b[3]);
                    }
                }
            }
        }
    }

    T *to = (T *)p.v[0] + head.place * a.queries * a.width;
    float *logsumexp = (float *)p.v[1] + head.place * a.queries;
#pragma unroll
    for (int m = 0; m < rows; ++m) {
        float by[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float sum = total[m][half];
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            by[half] = a.kept / (sum == 0 ? 1.0f : sum);
            const int query = first + 16 * m + lane / 4 + 8 * half;
            const float high = top[m][half] * (plain ? a.scale : 0.6931471805599453f);
            if (lane % 4 == 0 && query < a.queries) {
                logsumexp[query] = logf(sum) + (top[m][half] == -infinity() ? 0.0f : high);
            }
        }
        write_rows(to, out[m], first + 16 * m, a.queries, a.width, by[0], by[1]);
    }
}

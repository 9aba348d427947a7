// Attention, rung 5: tensor cores. (Rung 4, a block of registers for each thread, is
// ../attention.cu.) A warp multiplies 16 queries with 64 keys in instructions of 16 x 8 x 16, from
// 16-bit numbers that ldmatrix brings from shared memory; scores stay in registers and are the left
// operand of the product with v. Rung 6, ../attention_tensor.cu, copies the next tile meanwhile,
// gives a warp 32 queries so that each number read serves twice, and skips what the mask hides.

$headers
extern "C" __global__ void __launch_bounds__(128) $name(const Parameters<$count> p) {
    typedef $type T;
    constexpr int size = $size, width = $width, keys = 64, threads = 128;
    constexpr bool causal = $causal;
    typedef Tile<T, keys, size, threads> Keys;
    typedef Tile<T, keys, width, threads> Values;
    __shared__ __align__(16) unsigned char memory[Keys::bytes + Values::bytes];
    const Attention a = {$attention};
    const Strides in_q = {$q_strides}, in_k = {$k_strides}, in_v = {$v_strides};
    const int tiles = (a.queries + 63) / 64, begin = (int)(blockIdx.x % tiles) * 64;
    const int lane = threadIdx.x % 32, first = begin + (int)threadIdx.x / 32 * 16;
    const Head head = head_of(a, blockIdx.x / tiles);
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
    const Keys tile_k(memory);
    const Values tile_v(memory + Keys::bytes);
    u32 queries[size / 16][4];
    load_left(queries, q, first, q.whole());
    float out[width / 8][4], top[2] = {-infinity(), -infinity()}, total[2] = {0, 0};
    clear(out);
    const int end = last_key<causal>(a, begin + 64 < a.queries ? begin + 64 : a.queries);
    for (int from = 0; from < end; from += keys) {
        __syncthreads();
        tile_k.fill(k, from, k.whole());
        tile_v.fill(v, from, v.whole());
        wait_for_copies();
        __syncthreads();
        float scores[keys / 8][4];
        clear(scores);
        add_rows_product<Keys>(scores, queries, tile_k.rows_of(lane), 0);
#pragma unroll
        for (int n = 0; n < keys / 8; ++n) {
            const QueryRows at(first, from + 8 * n);
            for (int i = 0; i < 4; ++i) {
                scores[n][i] = seen<causal>(a, Mask<None>{}, scores[n][i], at.query(i), at.key(i));
            }
        }
        float before[2];
        for (int half = 0; half < 2; ++half) {
            before[half] = weights_of(scores, 2 * half, top[half], total[half], a.scale * LOG2_E);
        }
#pragma unroll
        for (int n = 0; n < width / 8; ++n) {
            for (int i = 0; i < 4; ++i) out[n][i] *= before[i / 2];
        }
        add_weighted<Values>(out, scores, tile_v.columns_of(lane), 0);
    }
    float by[2];
    for (int half = 0; half < 2; ++half) {
        float sum = total[half];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        by[half] = 1.0f / (sum == 0 ? 1.0f : sum);
        const int query = first + lane / 4 + 8 * half;
        if (lane % 4 == 0 && query < a.queries) {
            const float high = top[half] == -infinity() ? 0.0f : top[half] * a.scale;
            ((float *)p.v[1])[head.place * a.queries + query] = logf(sum) + high;
        }
    }
    T *to = (T *)p.v[0] + head.place * a.queries * a.width;
    write_rows(to, out, first, a.queries, a.width, by[0], by[1]);
}

// Gradients of queries on tensor cores: a warp has 16 queries, whose gradients it adds up over
// all keys that they see, in a fixed order. dQ = dS K scale.

$headers
extern "C" __global__ void __launch_bounds__($block_threads, $resident) $name(
    const Parameters<$count> p
) {
    typedef $type T;
    typedef $mask M;
    constexpr bool causal = $causal, drops = $drops, plain = Same<M, None>::value;
    constexpr int size = $size, width = $width, keys = $rows, slice = $slice,
                  threads = $block_threads;
    typedef Tile<T, keys, size, threads> Keys;
    typedef Tile<T, keys, width, threads> Values;
    extern __shared__ __align__(16) unsigned char memory[];
    const Attention a = {$attention};
    const Strides in_q = {$q_strides}, in_k = {$k_strides}, in_v = {$v_strides};
    const Strides in_grad = {$grad_strides};
    const Mask<M> every = {$mask_operand};
    const Dropout<drops> dropout($state_operand);

    constexpr int block = 16 * threads / 32;
    const int tiles = (a.queries + block - 1) / block, lane = threadIdx.x % 32;
    const int begin = (tiles - 1 - (int)(blockIdx.x % tiles)) * block;
    const int first = begin + (int)threadIdx.x / 32 * 16;
    const Head head = head_of(a, blockIdx.x / tiles);
    const Mask<M> mask = every.of(head);
    const Source<T> q = {
        (const T *)p.v[1] + in_q.at(head.batch, head.query), in_q.row, in_q.column, a.queries,
        a.size
    };
    const Source<T> k = {
        (const T *)p.v[2] + in_k.at(head.batch, head.key), in_k.row, in_k.column, a.keys, a.size
    };
    const Source<T> v = {
        (const T *)p.v[3] + in_v.at(head.batch, head.key), in_v.row, in_v.column, a.keys, a.width
    };
    const Source<T> grad = {
        (const T *)p.v[4] + in_grad.at(head.batch, head.query), in_grad.row, in_grad.column,
        a.queries, a.width
    };
    const bool whole_k = k.whole(), whole_v = v.whole();
    const int end = last_key<causal>(a, begin + block < a.queries ? begin + block : a.queries);
    const auto fetch = [&](int from) {
        unsigned char *to = memory + (from / keys % 2) * (Keys::bytes + Values::bytes);
        Keys(to).fill(k, from, whole_k);
        Values(to + Keys::bytes).fill(v, from, whole_v);
    };
    if (end > 0) fetch(0);

    u32 own_queries[size / 16][4], own_gradients[width / 16][4];
    load_left(own_queries, q, first, q.whole());
    load_left(own_gradients, grad, first, grad.whole());
    float dq[size / 8][4], delta[2], shift[2];
    clear(dq);
    const float *deltas = (const float *)p.v[5] + head.place * a.queries,
                *shifts = deltas + $all_rows;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int query = first + lane / 4 + 8 * half;
        delta[half] = query < a.queries ? deltas[query] : 0.0f;
        shift[half] = query < a.queries ? shifts[query] : 0.0f;
    }
    const float unit = plain ? a.scale * LOG2_E : 1.0f;

    for (int from = 0; from < end; from += keys) {
        wait_for_copies();
        __syncthreads();
        if (from + keys < end) fetch(from + keys);
        unsigned char *at = memory + (from / keys % 2) * (Keys::bytes + Values::bytes);
        const Keys tile(at);
        const Values values(at + Keys::bytes);
#pragma unroll 1
        for (int along = 0; along < keys; along += slice) {
            if (causal && from + along > first + 15 + a.offset) break;
            float scores[slice / 8][4], products[slice / 8][4];
            clear(scores);
            clear(products);
            add_rows_product<Keys>(scores, own_queries, tile.rows_of(lane), along);
            add_rows_product<Values>(products, own_gradients, values.rows_of(lane), along);
            if (!plain || from + along + slice > a.keys ||
                (causal && from + along + slice - 1 > first + a.offset)) {
                seldom();
#pragma unroll
                for (int n = 0; n < slice / 8; ++n) {
                    hide<causal>(scores[n], a, mask, QueryRows(first, from + along + 8 * n));
                }
            }
#pragma unroll
            for (int n = 0; n < slice / 8; ++n) {
                const u32 kept =
                    kept_of(dropout, a, head, QueryRows(first, from + along + 8 * n));
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const float weight = power_of_two(fmaf(scores[n][i], unit, -shift[i / 2]));
                    const float through = drops ? (kept >> i & 1 ? a.kept : 0.0f) : 1.0f;
                    const float score = products[n][i] * through - delta[i / 2];
                    // Hidden places must stay out, even where delta is infinite.
                    products[n][i] = weight == 0.0f ? 0.0f : weight * score;
                }
            }
            add_weighted<Keys>(dq, products, tile.columns_of(lane), along);
        }
    }
    write_rows(
        (T *)p.v[0] + head.place * a.queries * a.size, dq, first, a.queries, a.size, a.scale,
        a.scale
    );
}

// Gradients of keys and values on tensor cores: a warp has 16 keys, whose gradients it adds up
// over all queries that see them, in a fixed order. Scores stand turned, keys by queries, so that
// P^T and dS^T are left operands as they come out of their products. dV = P^T grad, dK = dS^T Q
// scale.

$headers
extern "C" __global__ void __launch_bounds__($block_threads, $resident) $name(
    const Parameters<$count> p
) {
    typedef $type T;
    typedef $mask M;
    constexpr bool causal = $causal, drops = $drops, plain = Same<M, None>::value;
    constexpr int size = $size, width = $width, rows = $rows, slice = $slice,
                  threads = $block_threads;
    typedef Tile<T, rows, size, threads> Queries;
    typedef Tile<T, rows, width, threads> Gradients;
    constexpr int bytes = Queries::bytes + Gradients::bytes + rows * 8;
    extern __shared__ __align__(16) unsigned char memory[];
    const Attention a = {$attention};
    const Strides in_q = {$q_strides}, in_k = {$k_strides}, in_v = {$v_strides};
    const Strides in_grad = {$grad_strides};
    const Mask<M> every = {$mask_operand};
    const Dropout<drops> dropout($state_operand);

    constexpr int block = 16 * threads / 32;
    const int tiles = (a.keys + block - 1) / block, lane = threadIdx.x % 32;
    const int from = (int)(blockIdx.x % tiles) * block, first = from + (int)threadIdx.x / 32 * 16;
    const long long place = blockIdx.x / tiles;  // of a head of k and v, among all
    const int key_heads = a.heads / a.group;
    const int batch = (int)(place / key_heads), key_head = (int)(place % key_heads);
    const Source<T> k = {
        (const T *)p.v[3] + in_k.at(batch, key_head), in_k.row, in_k.column, a.keys, a.size
    };
    const Source<T> v = {
        (const T *)p.v[4] + in_v.at(batch, key_head), in_v.row, in_v.column, a.keys, a.width
    };
    // Wide heads leave no registers for the values; they stay in shared memory behind the tiles.
    constexpr bool held = size + width <= $held;
    typedef Tile<T, block, width, threads> OwnValues;
    const OwnValues shared_values(memory + 2 * bytes);
    const T *value_lane =
        shared_values.columns_of(lane) + (threadIdx.x / 32) * 16 * OwnValues::stride;
    u32 own_keys[size / 16][4], own_values[held ? width / 16 : 1][4];
    load_left(own_keys, k, first, k.whole());
    if constexpr (held) {
        load_left(own_values, v, first, v.whole());
    } else {
        shared_values.fill(v, from, v.whole());
    }
    float dk[size / 8][4], dv[width / 8][4];
    clear(dk);
    clear(dv);
    const float unit = plain ? a.scale * LOG2_E : 1.0f;

    const int begin = causal && from > a.offset ? (from - a.offset) / rows * rows : 0;
    for (int shared = 0; shared < a.group; ++shared) {
        const Head head =
            head_of(a, ((long long)batch * key_heads + key_head) * a.group + shared);
        const Mask<M> mask = every.of(head);
        const Source<T> q = {
            (const T *)p.v[2] + in_q.at(batch, head.query), in_q.row, in_q.column, a.queries,
            a.size
        };
        const Source<T> grad = {
            (const T *)p.v[5] + in_grad.at(batch, head.query), in_grad.row, in_grad.column,
            a.queries, a.width
        };
        const float *delta = (const float *)p.v[6] + head.place * a.queries,
                    *shift = delta + $all_rows;
        const bool whole_q = q.whole(), whole_grad = grad.whole();
        const auto fetch = [&](int query) {
            unsigned char *to = memory + (query / rows % 2) * bytes;
            Queries(to).fill(q, query, whole_q);
            Gradients(to + Queries::bytes).fill(grad, query, whole_grad);
            float *numbers = (float *)(to + Queries::bytes + Gradients::bytes);
            if (threadIdx.x < rows) {
                const bool live = query + (int)threadIdx.x < a.queries;
                const int at = live ? query + (int)threadIdx.x : 0;
                copy_4(numbers + threadIdx.x, delta + at, live);
                copy_4(numbers + rows + threadIdx.x, shift + at, live);
            }
        };
        __syncthreads();  // the last tile of the head before is done with
        if (begin < a.queries) fetch(begin);
        for (int query = begin; query < a.queries; query += rows) {
            wait_for_copies();
            __syncthreads();
            if (query + rows < a.queries) fetch(query + rows);
            unsigned char *at = memory + (query / rows % 2) * bytes;
            const Queries queries(at);
            const Gradients gradients(at + Queries::bytes);
            const float *numbers = (const float *)(at + Queries::bytes + Gradients::bytes);
#pragma unroll 1
            for (int down = 0; down < rows; down += slice) {
                if (causal && first > query + down + slice - 1 + a.offset) continue;
                float weights[slice / 8][4], products[slice / 8][4];
                clear(weights);
                clear(products);
                add_rows_product<Queries>(weights, own_keys, queries.rows_of(lane), down);
                if constexpr (held) {
                    add_rows_product<Gradients>(
                        products, own_values, gradients.rows_of(lane), down
                    );
                } else {
                    const T *at_rows = gradients.rows_of(lane);
                    add_tiles_product<Gradients, width / 16>(products, value_lane, at_rows, down);
                }
                if (!plain || first + 16 > a.keys || query + down + slice > a.queries ||
                    (causal && first + 15 > query + down + a.offset)) {
                    seldom();
#pragma unroll
                    for (int n = 0; n < slice / 8; ++n) {
                        hide<causal>(weights[n], a, mask, KeyRows(first, query + down + 8 * n));
                    }
                }
#pragma unroll
                for (int n = 0; n < slice / 8; ++n) {
                    const u32 kept =
                        kept_of(dropout, a, head, KeyRows(first, query + down + 8 * n));
                    const float *number = numbers + down + 8 * n + lane % 4 * 2;
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        const float shift = number[rows + i % 2], delta = number[i % 2];
                        const float weight = power_of_two(fmaf(weights[n][i], unit, -shift));
                        const float through = drops ? (kept >> i & 1 ? a.kept : 0.0f) : 1.0f;
                        weights[n][i] = drops ? weight * through : weight;
                        const float score = products[n][i] * through - delta;
                        // Hidden places must stay out, even where delta is infinite.
                        products[n][i] = weight == 0.0f ? 0.0f : weight * score;
                    }
                }
                add_weighted<Gradients>(dv, weights, gradients.columns_of(lane), down);
                add_weighted<Queries>(dk, products, queries.columns_of(lane), down);
            }
        }
    }
    T *dk_to = (T *)p.v[0] + place * a.keys * a.size,
      *dv_to = (T *)p.v[1] + place * a.keys * a.width;
    write_rows(dk_to, dk, first, a.keys, a.size, a.scale, a.scale);
    write_rows(dv_to, dv, first, a.keys, a.width, 1.0f, 1.0f);
}

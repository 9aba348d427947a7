// softmax(q k^T scale + mask) v and each row's logsumexp, in float32 arithmetic: one block for 64
// queries of a head. Scores live in registers and shared memory, a tile at a time; the running
// largest and the running sum of each row rescale what was added up before (Milakov and Gimelshein,
// "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022).

$headers
extern "C" __global__ void __launch_bounds__(256, 1) $name(const Parameters<$count> p) {
    typedef $type T;
    constexpr bool causal = $causal;
    constexpr int parts = $parts;
    __shared__ __align__(16) TileMemory memory;
    const Attention a = {$attention};
    const Strides in_q = {$q_strides}, in_k = {$k_strides}, in_v = {$v_strides};
    const Mask<$mask> every = {$mask_operand};
    const Dropout<$drops> dropout($state_operand);

    const int tiles = (a.queries + TILE - 1) / TILE;
    const int first =
        (tiles - 1 - (int)(blockIdx.x % tiles)) * TILE;  // those that see most go first
    const Head head = head_of(a, blockIdx.x / tiles);
    const Mask<$mask> mask = every.of(head);
    const Matrix<T> q = {
        (const T *)p.v[2] + in_q.at(head.batch, head.query), in_q.row, in_q.column, a.queries,
        a.size
    };
    const Matrix<T> k = {
        (const T *)p.v[3] + in_k.at(head.batch, head.key), in_k.row, in_k.column, a.keys, a.size
    };
    const Matrix<T> v = {
        (const T *)p.v[4] + in_v.at(head.batch, head.key), in_v.row, in_v.column, a.keys, a.width
    };
    const Place me;
    Sums<parts> sums;
    float top[4], total[4];
    for (int i = 0; i < 4; ++i) top[i] = -infinity(), total[i] = 0;

    const int end = last_key<causal>(a, first + TILE < a.queries ? first + TILE : a.queries);
    for (int from = 0; from < end; from += TILE) {
        float scores[4][4];
        multiply_rows(scores, memory, q, first, k, from);
        for (int i = 0; i < 4; ++i) {
            const int query = first + me.query(i);
            float high = top[i];
            for (int j = 0; j < 4; ++j) {
                scores[i][j] =
                    seen<causal>(a, mask, scores[i][j] * a.scale, query, from + me.key(j));
                high = fmaxf(high, scores[i][j]);
            }
            high = largest_along(high);
            const float base = high == -infinity() ? 0.0f : high;
            const float before = expf(top[i] - base);
            float sum = 0;
            for (int j = 0; j < 4; ++j) {
                const int key = from + me.key(j);
                float weight = expf(scores[i][j] - base);
                sum += weight;
                if (!dropout.keeps(a, head, query, key)) weight = 0;
                memory.weights[me.query(i)][me.key(j)] = weight;
            }
            total[i] = total[i] * before + sum_along(sum);
            top[i] = high;
            sums.scale(i, before);
        }
        add_product<false>(sums, memory, v, from);
    }

    float *logsumexp = (float *)p.v[1] + head.place * a.queries;
    for (int i = 0; i < 4; ++i) {
        const int query = first + me.query(i);
        sums.scale(i, a.kept / (total[i] == 0 ? 1.0f : total[i]));
        if (me.along == 0 && query < a.queries) {
            logsumexp[query] = logf(total[i]) + (top[i] == -infinity() ? 0.0f : top[i]);
        }
    }
    sums.write((T *)p.v[0] + head.place * a.queries * a.width, first, a.queries, a.width, 1.0f);
}

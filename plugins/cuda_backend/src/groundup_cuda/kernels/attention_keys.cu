// Gradients of 64 keys and values of a head: one block adds up over all queries that see them, in a
// fixed order, so a result is the same every time. dV = P^T grad, dK = dS^T Q scale.

$headers
extern "C" __global__ void __launch_bounds__(256, 1) $name(const Parameters<$count> p) {
    typedef $type T;
    constexpr bool causal = $causal;
    __shared__ __align__(16) TileMemory memory;
    const Attention a = {$attention};
    const Strides in_q = {$q_strides}, in_k = {$k_strides}, in_v = {$v_strides};
    const Strides in_grad = {$grad_strides};
    const Mask<$mask> every = {$mask_operand};
    const Dropout<$drops> dropout($state_operand);

    const int tiles = (a.keys + TILE - 1) / TILE;
    const int from = (int)(blockIdx.x % tiles) * TILE;  // the first are seen by most
    const long long place = blockIdx.x / tiles;        // of a head of k and v, among all
    const int key_heads = a.heads / a.group;
    const int batch = (int)(place / key_heads), key_head = (int)(place % key_heads);
    const Matrix<T> k = {
        (const T *)p.v[3] + in_k.at(batch, key_head), in_k.row, in_k.column, a.keys, a.size
    };
    const Matrix<T> v = {
        (const T *)p.v[4] + in_v.at(batch, key_head), in_v.row, in_v.column, a.keys, a.width
    };
    Sums<$size_parts> dk;
    Sums<$width_parts> dv;
    const int begin = causal && from > a.offset ? (from - a.offset) / TILE * TILE : 0;
    for (int shared = 0; shared < a.group; ++shared) {
        const Head head = head_of(a, ((long long)batch * key_heads + key_head) * a.group + shared);
        const Mask<$mask> mask = every.of(head);
        const Matrix<T> q = {
            (const T *)p.v[2] + in_q.at(batch, head.query), in_q.row, in_q.column, a.queries, a.size
        };
        const Matrix<T> grad = {
            (const T *)p.v[5] + in_grad.at(batch, head.query), in_grad.row, in_grad.column,
            a.queries, a.width
        };
        const float *delta = (const float *)p.v[6] + head.place * a.queries;
        const RowNumbers rows = {delta, delta + $all_rows};
        for (int first = begin; first < a.queries; first += TILE) {
            float scores[4][4], products[4][4];
            multiply_rows(scores, memory, q, first, k, from);
            multiply_rows(products, memory, grad, first, v, from);
            gradients_of_scores<causal>(
                scores, products, a, head, mask, dropout, rows, first, from
            );
            keep_weights(memory, scores);
            add_product<true>(dv, memory, grad, first);
            __syncthreads();
            keep_weights(memory, products);
            add_product<true>(dk, memory, q, first);
        }
    }
    dk.write((T *)p.v[0] + place * a.keys * a.size, from, a.keys, a.size, a.scale);
    dv.write((T *)p.v[1] + place * a.keys * a.width, from, a.keys, a.width, 1.0f);
}

// Gradients of 64 queries of a head: one block adds up over all keys that they see, in a fixed
// order. dQ = dS K scale.

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

    const int tiles = (a.queries + TILE - 1) / TILE;
    const int first = (tiles - 1 - (int)(blockIdx.x % tiles)) * TILE;
    const Head head = head_of(a, blockIdx.x / tiles);
    const Mask<$mask> mask = every.of(head);
    const Matrix<T> q = {
        (const T *)p.v[1] + in_q.at(head.batch, head.query), in_q.row, in_q.column, a.queries,
        a.size
    };
    const Matrix<T> k = {
        (const T *)p.v[2] + in_k.at(head.batch, head.key), in_k.row, in_k.column, a.keys, a.size
    };
    const Matrix<T> v = {
        (const T *)p.v[3] + in_v.at(head.batch, head.key), in_v.row, in_v.column, a.keys, a.width
    };
    const Matrix<T> grad = {
        (const T *)p.v[4] + in_grad.at(head.batch, head.query), in_grad.row, in_grad.column,
        a.queries, a.width
    };
    const float *delta = (const float *)p.v[5] + head.place * a.queries;
    const RowNumbers rows = {delta, delta + $all_rows};
    Sums<$size_parts> dq;
    const int end = last_key<causal>(a, first + TILE < a.queries ? first + TILE : a.queries);
    for (int from = 0; from < end; from += TILE) {
        float scores[4][4], products[4][4];
        multiply_rows(scores, memory, q, first, k, from);
        multiply_rows(products, memory, grad, first, v, from);
        gradients_of_scores<causal>(scores, products, a, head, mask, dropout, rows, first, from);
        keep_weights(memory, products);
        add_product<false>(dq, memory, k, from);
    }
    dq.write((T *)p.v[0] + head.place * a.queries * a.size, first, a.queries, a.size, a.scale);
}

// The two passes of attention's gradient in float32 arithmetic share this: from the scores and the
// products of grad and v, the dropped probabilities P and the scores' gradients dS of a tile.
//   P = exp(scores - logsumexp), dS = P (drop(grad v^T) - delta)
#ifndef ATTENTION_BACKWARD
#define ATTENTION_BACKWARD

struct RowNumbers {
    const float *delta, *shift;
};

template <bool causal, typename M, bool drops>
__device__ inline void gradients_of_scores(
    float (&scores)[4][4], float (&products)[4][4], const Attention &a, const Head &head,
    const Mask<M> &mask, const Dropout<drops> &dropout, const RowNumbers &rows, int first, int from
) {
    const Place me;
    for (int i = 0; i < 4; ++i) {
        const int query = first + me.query(i);
        const bool live = query < a.queries;
        const float delta = live ? rows.delta[query] : 0.0f,
                    shift = live ? rows.shift[query] : 0.0f;
        for (int j = 0; j < 4; ++j) {
            const int key = from + me.key(j);
            const float score = seen<causal>(a, mask, scores[i][j] * a.scale, query, key);
            const bool inside = live && key < a.keys;
            const float weight = inside ? expf(score - shift) : 0.0f;
            const float through = dropout.keeps(a, head, query, key) ? a.kept : 0.0f;
            scores[i][j] = weight * through;
            // What lies outside must stay out, even where delta is infinite.
            products[i][j] = inside ? weight * (products[i][j] * through - delta) : 0.0f;
        }
    }
}

__device__ inline void keep_weights(TileMemory &memory, const float (&values)[4][4]) {
    const Place me;
    for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) memory.weights[me.query(i)][me.key(j)] = values[i][j];
    }
}

#endif

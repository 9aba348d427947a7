// Attention, rung 1: the formula. One thread for each number of the result finds the largest score
// of its row, then adds up weights and weighted values. Nothing is kept, so every score is computed
// twice for each of the D numbers of a row: 2 D times the work that is needed, all of it from
// memory.

$headers
extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $type T;
    const Attention a = {$attention};
    const Strides in_q = {$q_strides}, in_k = {$k_strides}, in_v = {$v_strides};
    const long long number = (long long)blockIdx.x * 256 + threadIdx.x, row = number / a.width;
    if (row >= $all_rows) return;
    const int query = (int)(row % a.queries), column = (int)(number % a.width);
    const Head head = head_of(a, row / a.queries);
    const T *q = (const T *)p.v[2] + in_q.at(head.batch, head.query) + query * in_q.row;
    const T *k = (const T *)p.v[3] + in_k.at(head.batch, head.key);
    const T *v = (const T *)p.v[4] + in_v.at(head.batch, head.key) + column * in_v.column;
    const auto score = [&](int key) {
        float sum = 0;
        for (int i = 0; i < a.size; ++i) {
            sum += load(q[i * in_q.column]) * load(k[key * in_k.row + i * in_k.column]);
        }
        return sum * a.scale;
    };
    const int end = last_key<$causal>(a, query + 1);
    float top = -infinity(), total = 0, sum = 0;
    for (int key = 0; key < end; ++key) top = fmaxf(top, score(key));
    for (int key = 0; key < end; ++key) {
        const float weight = expf(score(key) - top);
        total += weight;
        sum += weight * load(v[key * in_v.row]);
    }
    store(((T *)p.v[0])[number], total == 0 ? 0.0f : sum / total);
    if (column == 0) ((float *)p.v[1])[row] = logf(total) + (total == 0 ? 0.0f : top);
}

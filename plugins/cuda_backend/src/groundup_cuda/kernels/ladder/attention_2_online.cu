// Attention, rung 2: one pass. One thread for each query keeps its row of results and brings it up
// to date with every key: where a larger score appears, what was added up is scaled down (Milakov
// and Gimelshein, 2018). Each score is computed once. All threads of a block read the same key at
// the same time, so the caches serve most of it, one number at a time.

$headers
extern "C" __global__ void __launch_bounds__(128) $name(const Parameters<$count> p) {
    typedef $type T;
    constexpr int size = $size, width = $width;
    const Attention a = {$attention};
    const Strides in_q = {$q_strides}, in_k = {$k_strides}, in_v = {$v_strides};
    const int tiles = (a.queries + 127) / 128;
    const int query = (int)(blockIdx.x % tiles) * 128 + threadIdx.x;
    const Head head = head_of(a, blockIdx.x / tiles);
    if (query >= a.queries) return;
    const T *q = (const T *)p.v[2] + in_q.at(head.batch, head.query) + query * in_q.row;
    const T *k = (const T *)p.v[3] + in_k.at(head.batch, head.key);
    const T *v = (const T *)p.v[4] + in_v.at(head.batch, head.key);
    float own[size], out[width], top = -infinity(), total = 0;
#pragma unroll
    for (int i = 0; i < size; ++i) own[i] = load(q[i * in_q.column]) * a.scale;
#pragma unroll
    for (int i = 0; i < width; ++i) out[i] = 0;
    const int end = last_key<$causal>(a, query + 1);
    for (int key = 0; key < end; ++key) {
        float score = 0;
#pragma unroll
        for (int i = 0; i < size; ++i) score += own[i] * load(k[key * in_k.row + i * in_k.column]);
        const float high = fmaxf(top, score), before = expf(top - high),
                    weight = expf(score - high);
        total = total * before + weight;
        top = high;
#pragma unroll
        for (int i = 0; i < width; ++i) {
            out[i] = out[i] * before + weight * load(v[key * in_v.row + i * in_v.column]);
        }
    }
    const long long row = head.place * a.queries + query;
    T *to = (T *)p.v[0] + row * width;
#pragma unroll
    for (int i = 0; i < width; ++i) store(to[i], total == 0 ? 0.0f : out[i] / total);
    ((float *)p.v[1])[row] = logf(total) + (total == 0 ? 0.0f : top);
}

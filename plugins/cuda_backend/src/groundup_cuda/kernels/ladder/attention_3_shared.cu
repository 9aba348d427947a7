// Attention, rung 3: tiles. The threads of a block bring 32 keys and values into shared memory
// together, neighbours reading neighbours, and all 128 queries use them there: memory is read 128
// times less often. Every multiply-add still needs a number from shared memory, though.

$headers
extern "C" __global__ void __launch_bounds__(128) $name(const Parameters<$count> p) {
    typedef $type T;
    constexpr int size = $size, width = $width, keys = 32;
    __shared__ float tile_k[keys][size], tile_v[keys][width];
    const Attention a = {$attention};
    const Strides in_q = {$q_strides}, in_k = {$k_strides}, in_v = {$v_strides};
    const int tiles = (a.queries + 127) / 128, first = (int)(blockIdx.x % tiles) * 128;
    const int query = first + threadIdx.x;
    const Head head = head_of(a, blockIdx.x / tiles);
    const bool live = query < a.queries;
    const T *q = (const T *)p.v[2] + in_q.at(head.batch, head.query) + query * in_q.row;
    const T *k = (const T *)p.v[3] + in_k.at(head.batch, head.key);
    const T *v = (const T *)p.v[4] + in_v.at(head.batch, head.key);
    float own[size], out[width], top = -infinity(), total = 0;
#pragma unroll
    for (int i = 0; i < size; ++i) own[i] = live ? load(q[i * in_q.column]) * a.scale : 0.0f;
#pragma unroll
    for (int i = 0; i < width; ++i) out[i] = 0;
    const int mine = last_key<$causal>(a, query + 1);
    const int end = last_key<$causal>(a, first + 128 < a.queries ? first + 128 : a.queries);
    for (int from = 0; from < end; from += keys) {
        __syncthreads();
        for (int n = threadIdx.x; n < keys * size; n += 128) {
            const int key = from + n / size, i = n % size;
            tile_k[n / size][i] = key < end ? load(k[key * in_k.row + i * in_k.column]) : 0.0f;
        }
        for (int n = threadIdx.x; n < keys * width; n += 128) {
            const int key = from + n / width, i = n % width;
            tile_v[n / width][i] = key < end ? load(v[key * in_v.row + i * in_v.column]) : 0.0f;
        }
        __syncthreads();
        const int stop = mine - from < keys ? mine - from : keys;
        for (int key = 0; key < stop; ++key) {
            float score = 0;
#pragma unroll
            for (int i = 0; i < size; ++i) score += own[i] * tile_k[key][i];
            const float high = fmaxf(top, score), before = expf(top - high),
                        weight = expf(score - high);
            total = total * before + weight;
            top = high;
#pragma unroll
            for (int i = 0; i < width; ++i) out[i] = out[i] * before + weight * tile_v[key][i];
        }
    }
    if (!live) return;
    const long long row = head.place * a.queries + query;
    T *to = (T *)p.v[0] + row * width;
#pragma unroll
    for (int i = 0; i < width; ++i) store(to[i], total == 0 ? 0.0f : out[i] / total);
    ((float *)p.v[1])[row] = logf(total) + (total == 0 ? 0.0f : top);
}

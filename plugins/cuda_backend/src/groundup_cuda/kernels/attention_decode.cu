// A few queries over a long cache. With one block a head the GPU would stand idle, so every 64
// keys of a head of k and v have a block of their own, and attention_join.cu joins the parts.
// Eight lanes read one key, 16 bytes each of 16-bit numbers. All queries that share the head read
// it from the cache next to the multiprocessor. Floor: keys and values are read once from memory,
// nothing else counts.

$headers
extern "C" __global__ void __launch_bounds__(128) $name(const Parameters<$count> p) {
    typedef $type T;
    constexpr int keys = 64, parts = $parts, turns = keys / 16;  // parts: of 64 columns
    __shared__ float weights[keys], sums[4][64];
    const Attention a = {$attention};
    const Strides in_q = {$q_strides}, in_k = {$k_strides}, in_v = {$v_strides};
    const int splits = (int)$splits, split = (int)(blockIdx.x % splits), from = split * keys;
    const long long place = blockIdx.x / splits;
    const int key_heads = a.heads / a.group;
    const int batch = (int)(place / key_heads), key_head = (int)(place % key_heads);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int column = lane % 8 * 8, slot = warp * 4 + lane / 8;
    const Row<T> k = {
        (const T *)p.v[2] + in_k.at(batch, key_head), in_k.row, in_k.column, a.size
    };
    const Row<T> v = {
        (const T *)p.v[3] + in_v.at(batch, key_head), in_v.row, in_v.column, a.width
    };
    const bool whole_k = k.whole(), whole_v = v.whole();
    float *const part = (float *)p.v[0];
    float *const tops = part + $all_rows * splits * a.width, *const totals =
                                                                 tops + $all_rows * splits;

    for (int r = 0; r < a.group * a.queries; ++r) {
        const int query = r % a.queries, head = key_head * a.group + r / a.queries;
        const long long row = ((long long)batch * a.heads + head) * a.queries + query;
        const int seen = last_key<true>(a, query + 1);  // keys below it
        const Row<T> q = {
            (const T *)p.v[1] + in_q.at(batch, head), in_q.row, in_q.column, a.size
        };
        float scores[turns] = {};
        for (int c = column; c < a.size; c += 64) {
            float own[8], key[8];
            q.read(own, query, c, false);
#pragma unroll
            for (int turn = 0; turn < turns; ++turn) {
                if (from + slot + 16 * turn >= seen) continue;
                k.read(key, from + slot + 16 * turn, c, whole_k);
#pragma unroll
                for (int i = 0; i < 8; ++i) scores[turn] = fmaf(own[i], key[i], scores[turn]);
            }
        }
        __syncthreads();  // the weights and sums of the query before are done with
#pragma unroll
        for (int turn = 0; turn < turns; ++turn) {
            float score = scores[turn] * a.scale;
            for (int step = 1; step < 8; step *= 2) score += __shfl_xor_sync(~0u, score, step);
            const int at = slot + 16 * turn;
            if (lane % 8 == 0) weights[at] = from + at < seen ? score : -infinity();
        }
        __syncthreads();
        float top = fmaxf(weights[lane], weights[lane + 32]);
        for (int step = 16; step > 0; step /= 2)
            top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
        const float base = top == -infinity() ? 0.0f : top;
        float total = expf(weights[lane] - base) + expf(weights[lane + 32] - base);
        for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(~0u, total, step);
        if (threadIdx.x == 0) {
            tops[row * splits + split] = top;
            totals[row * splits + split] = total;
        }
        float *const to = part + (row * splits + split) * a.width;
#pragma unroll 1
        for (int c = 0; c < parts; ++c) {
            float out[8] = {}, value[8];
#pragma unroll
            for (int turn = 0; turn < turns; ++turn) {
                const int at = slot + 16 * turn;
                if (from + at >= seen) continue;
                v.read(value, from + at, column + 64 * c, whole_v);
                const float weight = expf(weights[at] - base);
#pragma unroll
                for (int i = 0; i < 8; ++i) out[i] = fmaf(weight, value[i], out[i]);
            }
            __syncthreads();
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                out[i] += __shfl_xor_sync(~0u, out[i], 8);
                out[i] += __shfl_xor_sync(~0u, out[i], 16);
                if (lane < 8) sums[warp][column + i] = out[i];
            }
            __syncthreads();
            const int here = threadIdx.x;
            if (here < 64 && here + 64 * c < a.width) {
                to[here + 64 * c] = sums[0][here] + sums[1][here] + sums[2][here] + sums[3][here];
            }
        }
    }
}

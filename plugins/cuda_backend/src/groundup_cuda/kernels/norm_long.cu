// layer_norm and rms_norm of rows that do not fit into registers: one block per row, which is read
// three times, the second and third time from the cache if it is not longer than that.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $residual_type Residual;
    typedef $vector Vector;
    typedef $out Out;
    typedef $sum Total;
    constexpr int operands = $addresses;
    constexpr bool centred = $centred, residual = $residual, biased = $biased;
    const Index i = (Index)blockIdx.x, columns = (Index)$columns;
$index
    const $type *x = (const $type *)p.v[operands - 1 - biased - 1 - residual] + at0;
    const Residual *more = (const Residual *)p.v[operands - 1 - biased - 1] + at1;  // weight, if none
    float mean = 0.0f;
    if constexpr (centred || residual) {
        Total *sum = (Total *)p.v[1] + i * columns;
        for (Index c = threadIdx.x; c < columns; c += 256) {
            const float v = residual ? load(x[c]) + load(more[c]) : load(x[c]);
            if constexpr (residual) store(sum[c], v);
            mean += v;
        }
        mean = centred ? total<256>(mean) / (float)columns : 0.0f;
    }
    float squares = 0.0f;
    for (Index c = threadIdx.x; c < columns; c += 256) {
        const float v = (residual ? load(x[c]) + load(more[c]) : load(x[c])) - mean;
        squares += v * v;
    }
    const float scale = 1.0f / sqrtf(total<256>(squares) / (float)columns + $eps);
    const Vector *weight = (const Vector *)p.v[operands - 1 - biased];
    const Vector *bias = (const Vector *)p.v[operands - 1];
    Out *out = (Out *)p.v[0] + i * columns;
    for (Index c = threadIdx.x; c < columns; c += 256) {
        const float v = (residual ? load(x[c]) + load(more[c]) : load(x[c])) - mean;
        const float y = v * scale * load(weight[c]);
        store(out[c], biased ? y + load(bias[c]) : y);
    }
}

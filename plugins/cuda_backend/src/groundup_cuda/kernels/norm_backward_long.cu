// Gradients of layer_norm and rms_norm of rows that do not fit into registers: one block per row at a
// time, which reads it three times. A block's line of partial sums stays in memory, each column
// owned by one thread; columns.cu adds the lines up.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type Type;
    typedef $grad Grad;
    typedef $vector Vector;
    typedef $out Out;
    constexpr bool centred = $centred, added = $added, twice = $twice;
    const Index rows = (Index)$rows, columns = (Index)$columns;
    const Vector *weight = (const Vector *)p.v[3];
    float *dweight = (float *)p.v[1] + (Index)blockIdx.x * (1 + centred) * columns;
    float *dbias = dweight + columns;
    for (Index c = threadIdx.x; c < columns; c += 256) {
        dweight[c] = 0.0f;
        if constexpr (centred) dbias[c] = 0.0f;
    }
    for (Index i = (Index)blockIdx.x; i < rows; i += (Index)$blocks) {
$index
        const Type *x = (const Type *)p.v[2] + at0;
        const Grad *grad = (const Grad *)p.v[4] + at1;
        const $more *more = (const $more *)p.v[4 + added] + at2;
        float mean_x = 0.0f;
        if constexpr (centred) {
            for (Index c = threadIdx.x; c < columns; c += 256) mean_x += load(x[c]);
            mean_x = total<256>(mean_x) / (float)columns;
        }
        float sums[3] = {};  // of c * c, g * c and g
        for (Index c = threadIdx.x; c < columns; c += 256) {
            const float from = load(x[c]) - mean_x, g = load(grad[c]) * load(weight[c]);
            sums[0] += from * from;
            sums[1] += g * from;
            sums[2] += g;
        }
        joined<256, Sum>(sums);
        const float s = 1.0f / sqrtf(sums[0] / (float)columns + $eps);
        const float along = sums[1] / (float)columns * s * s;
        const float mean = centred ? sums[2] / (float)columns : 0.0f;
        Out *dx = (Out *)p.v[0] + i * columns;
        for (Index c = threadIdx.x; c < columns; c += 256) {
            const float from = load(x[c]) - mean_x, g = load(grad[c]);
            float d = (g * load(weight[c]) - mean - from * along) * s;
            if constexpr (added) d += load(more[c]);
            store(dx[c], d);
            if constexpr (twice) store((($again *)p.v[5 + added])[i * columns + c], d);
            dweight[c] += g * from * s;
            if constexpr (centred) dbias[c] += g;
        }
    }
}

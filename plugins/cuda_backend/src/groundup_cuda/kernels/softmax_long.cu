// softmax and log_softmax along any axis, and their gradients: one block per slice, or one thread
// where slices lie side by side in memory. The slice is read twice: once for its largest element and
// the sum of its exponentials together (Milakov and Gimelshein, 2018), once for the results.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $grad Grad;
    typedef $out Out;
    constexpr int group = $group;
    constexpr bool logarithm = $logarithm, backward = $backward;
    const Index i = (Index)blockIdx.x * (256 / group) + threadIdx.x / group;
    if (i >= (Index)$rows) return;
$index
    const Index columns = (Index)$columns;
    const Index step = (Index)$step, step0 = (Index)$step0, step1 = (Index)$step1;
    const $type *x = (const $type *)p.v[1] + at0;
    const Grad *grad = (const Grad *)p.v[$addresses - 1] + at1;
    Out *out = (Out *)p.v[0] + place;
    const Index first = threadIdx.x % group;
    float sum = 0.0f, top = 0.0f;
    if constexpr (backward) {
        for (Index c = first; c < columns; c += group) {
            const float d = load(grad[c * step1]);
            sum += logarithm ? d : d * load(x[c * step0]);
        }
        if constexpr (group > 1) sum = total<256>(sum);
    } else {
        Exponentials all;
        for (Index c = first; c < columns; c += group) {
            const float one[1] = {load(x[c * step0])};
            all.take(one);
        }
        if constexpr (group > 1) all.join<256>();
        top = all.top;
        sum = logarithm ? logf(all.sum) : 1.0f / all.sum;
        if (top - top != 0.0f) sum = top - top;  // NaN, for a largest element that is infinite
    }
    for (Index c = first; c < columns; c += group) {
        const float v = load(x[c * step0]), d = load(grad[c * step1]);
        float y;
        if constexpr (backward) y = logarithm ? d - expf(v) * sum : v * (d - sum);
        else y = logarithm ? v - top - sum : expf(v - top) * sum;
        store(out[c * step], y);
    }
}

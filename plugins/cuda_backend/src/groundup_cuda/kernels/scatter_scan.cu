// scatter_add of few indices: each output element asks every index of its line whether it is meant,
// in order. No atomics, so the same bits every time.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    const Index i = (Index)blockIdx.x * 256 + (Index)threadIdx.x;
    if (i >= (Index)$size) return;
$index
    const $in0 *indices = (const $in0 *)p.v[2] + at1;
    const $type *source = (const $type *)p.v[3] + at2;
    float sum = load(((const $type *)p.v[1])[at0]);
    const Index many = $inside ? (Index)$many : 0;
    for (Index j = 0; j < many; ++j) {
        if ((long long)indices[j * (Index)$index_step] == (long long)along) {
            sum += load(source[j * (Index)$step]);
        }
    }
    store((($type *)p.v[0])[place], sum);
}

// Adds each source element where its index says. Indices that are out of range add nothing. Atomics, but
// of integers: the order of additions, which is not fixed, does not change their sum.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    const Index i = (Index)blockIdx.x * 256 + (Index)threadIdx.x;
    if (i >= (Index)$size) return;
$index
    const long long chosen = ((const $in0 *)p.v[1])[at0];
    if (chosen < 0 || chosen >= $bound) return;
    atomicAdd(($atomic *)p.v[0] + place + chosen * $step, ($atomic)load(((const $in1 *)p.v[2])[at1]));
}

// -log_probs[target] of each row, 0 for ignored rows; one thread per row.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    const Index i = (Index)blockIdx.x * 256 + threadIdx.x;
    if (i >= (Index)$rows) return;
$index
    const long long target = (long long)((const $target *)p.v[2])[at1];
    const bool inside = target >= 0 && target < $columns;
    const float picked = inside ? load(((const $type *)p.v[1])[at0 + target * $step]) : 0.0f;
    store((($losses *)p.v[0])[i], target == $ignored ? 0.0f : -picked);
}

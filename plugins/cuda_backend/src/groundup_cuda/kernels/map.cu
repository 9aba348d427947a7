// One thread per output element: its place, the operands' places, one expression.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    const Index i = (Index)blockIdx.x * 256 + (Index)threadIdx.x;
    if (i >= (Index)$size) return;
$index
    store((($out *)p.v[0])[$place], $value);
}

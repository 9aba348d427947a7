// max_pool2d and avg_pool2d, and which element of each window is its maximum: one thread per window.
// Neighbouring windows overlap in the cache.
//
// Bytes: x and out once. 64 x 64 x 112 x 112 of float32 by 2 x 2: 257 MB, on an H100
// (copy 3000 GB/s) no less than 86 us.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type Type;
    const Index i = (Index)blockIdx.x * 256 + (Index)threadIdx.x;
    if (i >= (Index)$size) return;
$index
    const Index kernel0 = (Index)$kernel0, kernel1 = (Index)$kernel1;
    const Index top = v * (Index)$stride0 - (Index)$padding0;
    const Index left = u * (Index)$stride1 - (Index)$padding1;
    const Index height = (Index)$high, width = (Index)$wide;
    const Type *x = (const Type *)p.v[1] + at0;
    $begin
    for (Index a = 0; a < kernel0; ++a) {
        for (Index b = 0; b < kernel1; ++b) {
            const Index row = top + a, column = left + b;
            const bool inside = row >= 0 && row < height && column >= 0 && column < width;
            const float tap =
                inside ? load(x[row * (Index)$row_step + column * (Index)$column_step]) : $fill;
            $join
        }
    }
    store((($out *)p.v[0])[i], $value);
}

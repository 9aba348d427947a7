// The same for operands whose elements lie side by side: $width elements per thread, by loads and
// stores of 16 bytes; one at a time where addresses do not allow that, and at the end.
//
// Bytes: every operand once. An addition of 16 M float32 moves 201 MB: on an H100 (copy 3000 GB/s)
// no less than 67 us.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    constexpr int W = $width;
    const Index size = (Index)$size, i = ((Index)blockIdx.x * 256 + (Index)threadIdx.x) * W;
    if (i >= size) return;
$index
    const auto one = [&]($arguments) {
$lines
        return $value;
    };
    $out *out = ($out *)p.v[0] + place;
    if (i + W <= size && aligned<$addresses>(p)) {
$reads
        decltype(one($firsts)) y[W];
#pragma unroll
        for (int e = 0; e < W; ++e) y[e] = one($each);
        write<W>(out, y);
    } else {
        for (int e = 0; e < W && i + e < size; ++e) store(out[e], one($singles));
    }
}

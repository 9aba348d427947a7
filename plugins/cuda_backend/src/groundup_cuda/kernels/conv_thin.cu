// The same for groups of few rows, as in a depthwise convolution, whose tiles would be almost empty:
// one thread per result, or per piece of the inner axis of one.
$places
extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type Type;
    constexpr bool gaps = $gaps;
    const Index rows = (Index)$rows, columns = (Index)$columns, inner = (Index)$inner;
    const Index pieces = (Index)$pieces, piece = (Index)$piece;
    const Index i = (Index)blockIdx.x * 256 + (Index)threadIdx.x;
    const Index c = i % columns, row = i / columns % rows;
    const Index group = i / (columns * rows) % (Index)$groups;
    const Index which = i / (columns * rows * (Index)$groups);
    if (which >= pieces) return;
    const Index begin = which * piece, end = begin + piece < inner ? begin + piece : inner;
    const Type *a = (const Type *)p.v[1] + group * (Index)$left_group + row * (Index)$left_row;
    const Type *b = (const Type *)p.v[2] + group * (Index)$right_group;
$column
    float sum = 0.0f;
    // The place on the three inner axes, counted up without divisions.
    const Index last1 = (Index)$inner1 - 1, last2 = (Index)$inner2 - 1;
    Index k2 = begin % (last2 + 1), k1 = begin / (last2 + 1) % (last1 + 1);
    Index k0 = begin / (last2 + 1) / (last1 + 1);
    for (Index k = begin; k < end; ++k) {
$inner_places
        const bool turns2 = k2 == last2, turns1 = turns2 && k1 == last1;
        k2 = turns2 ? 0 : k2 + 1;
        k1 = turns1 ? 0 : turns2 ? k1 + 1 : k1;
        k0 += turns1;
        Index at0 = row_c + row_k + (Index)$shift0, at1 = column_c + column_k + (Index)$shift1;
        const bool met = meets<gaps>(at0, (Index)$stride0, (Index)$size0) &&
                         meets<gaps>(at1, (Index)$stride1, (Index)$size1);
        if (gaps && !met) continue;
        const Index place = place_c + place_k + at0 * (Index)$step0 + at1 * (Index)$step1;
        sum = fmaf(load(a[left_at]), met ? load(b[place]) : 0.0f, sum);
    }
    if constexpr ($biased) {
        const Type *bias = (const Type *)p.v[$last];
        sum += load(bias[(group * rows + row) * (Index)$bias_step]);
    }
    $out *out = ($out *)p.v[0] + which * (Index)$results + group * (Index)$out_group;
    {
$out_column
        store(out[row * (Index)$out_row + out_at], sum);
    }
}

// Sums, extremes and the like. $lanes threads share one output, or one piece of it: each strides over
// its elements, then a tree joins them. The order is fixed, so a result is the same every time.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $accumulator Value;
    __shared__ Value partial[256];
    constexpr int lanes = $lanes, groups = 256 / lanes;
    // Neighbouring threads read neighbouring elements: of one output, or of as many outputs.
    constexpr bool across = $across;
    const int lane = across ? threadIdx.x / groups : threadIdx.x % lanes;
    const int group = across ? threadIdx.x % groups : threadIdx.x / lanes;
    const int here = across ? lane * groups + group : group * lanes + lane;
    constexpr int step_here = across ? groups : 1;

    const Index piece = (Index)$piece, reduced = (Index)$reduced;
    const Index number_of = (Index)blockIdx.x * groups + group;
    const bool live = number_of < (Index)$size;
    // Pieces of one output lie apart, so that neighbours are neighbouring outputs.
    const Index outputs = (Index)$outputs;
    const Index i = number_of % outputs, which = number_of / outputs;
    const Index begin = which * piece;
    const Index end = begin + piece < reduced ? begin + piece : reduced;
    const $in0 *in0 = (const $in0 *)p.v[1];
    Value total = ($start);
    if (live) {
$index
        for (Index j = begin + lane; j < end; j += lanes) {
$inner
            const auto x = load(in0[row + column]);
            const Value a = total, b = $element;
            total = $combine;
        }
    }
    partial[here] = total;
    __syncthreads();
    for (int step = lanes / 2; step > 0; step /= 2) {
        if (lane < step) {
            const Value a = partial[here], b = partial[here + step * step_here];
            partial[here] = $combine;
        }
        __syncthreads();
    }
    if (live && lane == 0) {
        store((($out *)p.v[0])[which * outputs + i], partial[here]$by);
    }
}

// argmax and argmin: as reduction.cu, but of pairs of a value and its position. NaN wins over numbers,
// and among equals the first. categorical is argmax of logits with noise that is drawn here.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $accumulator Value;
    __shared__ Value values[256];
    __shared__ Index places[256];
    constexpr int lanes = $lanes, groups = 256 / lanes;
    constexpr bool across = $across;
    const int lane = across ? threadIdx.x / groups : threadIdx.x % lanes;
    const int group = across ? threadIdx.x % groups : threadIdx.x / lanes;
    const int here = across ? lane * groups + group : group * lanes + lane;
    constexpr int step_here = across ? groups : 1;
    const auto wins = [](Value a, Index at_a, Value b, Index at_b) {
        if (at_b < 0 || at_a < 0) return at_b < 0;
        if (a != a || b != b) return a != a && (b == b || at_a < at_b);
        return a $beats b || (a == b && at_a < at_b);
    };

    const Index reduced = (Index)$reduced, i = (Index)blockIdx.x * groups + group;
    const bool live = i < (Index)$size;
    const $in0 *in0 = (const $in0 *)p.v[1];
    Value best = 0;
    Index place = -1;
    if (live) {
$index
        for (Index j = lane; j < reduced; j += lanes) {
$inner
            Value x = load(in0[row + column]);
$further
            if (wins(x, j, best, place)) {
                best = x;
                place = j;
            }
        }
    }
    values[here] = best;
    places[here] = place;
    __syncthreads();
    for (int step = lanes / 2; step > 0; step /= 2) {
        if (lane < step) {
            const int other = here + step * step_here;
            if (places[other] >= 0 && wins(values[other], places[other], values[here], places[here])) {
                values[here] = values[other];
                places[here] = places[other];
            }
        }
        __syncthreads();
    }
    if (live && lane == 0) ((int *)p.v[0])[i] = (int)places[here];
}

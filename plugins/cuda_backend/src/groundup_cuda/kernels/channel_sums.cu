// Over all places of a channel, in some samples, the sums of grad (x - mean), times a scale or not, and
// of grad: $lanes threads share them, then a tree joins those. The order is fixed by shapes.
//
// Bytes: x and grad once. 32 x 256 x 56 x 56 of float32: 206 MB, on an H100 (reading, 3000 GB/s) no
// less than 69 us.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    __shared__ float partial[2][256];
    constexpr int lanes = $lanes, groups = 256 / lanes;
    // Neighbouring threads read neighbouring elements: of one channel, or of as many channels.
    constexpr bool across = $across;
    const int lane = across ? threadIdx.x / groups : threadIdx.x % lanes;
    const int group = across ? threadIdx.x % groups : threadIdx.x / lanes;
    const int here = across ? lane * groups + group : group * lanes + lane;
    constexpr int step_here = across ? groups : 1;
    const Index channels = (Index)$channels, i = (Index)blockIdx.x * groups + group;
    const Index which = i / channels, chunk = (Index)$chunk, left = (Index)$samples - which * chunk;
    const bool live = i < (Index)$size;
    float moment = 0.0f, sum = 0.0f, scale = 1.0f;
    if (live) {
$index
        const $type *x = (const $type *)p.v[1] + at0, *grad = (const $type *)p.v[2] + at1;
        const float mean = load(((const $mean_type *)p.v[3])[$kept + at2]);
        if constexpr ($scaled) scale = ((const float *)p.v[3])[$scales + at2];
        const Index many = (left < chunk ? left : chunk) * (Index)$area;
        for (Index j = lane; j < many; j += lanes) {
$inner
            const float d = load(grad[column1]);
            moment += d * (load(x[column0]) - mean);
            sum += d;
        }
    }
    partial[0][here] = moment;
    partial[1][here] = sum;
    __syncthreads();
    for (int step = lanes / 2; step > 0; step /= 2) {
        if (lane < step) {
            partial[0][here] += partial[0][here + step * step_here];
            partial[1][here] += partial[1][here + step * step_here];
        }
        __syncthreads();
    }
    if (live && lane == 0) {
        float *sums = (float *)p.v[0] + which * 2 * channels + i % channels;
        sums[0] = partial[0][here] * scale;
        sums[channels] = partial[1][here];
    }
}

// What the sum of all that blocks have left comes to, such as its square root: added up in float64 by
// one block.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    __shared__ double parts[256];
    const float *from = (const float *)p.v[1];
    double sum = 0.0;
#pragma unroll 8
    for (Index i = threadIdx.x; i < (Index)$size; i += 256) sum += (double)from[i];
    parts[threadIdx.x] = sum;
    __syncthreads();
    for (int step = 128; step > 0; step /= 2) {
        if (threadIdx.x < step) parts[threadIdx.x] += parts[threadIdx.x + step];
        __syncthreads();
    }
    const double whole = parts[0];
    if (threadIdx.x == 0) store((($type *)p.v[0])[0], (float)($value));
}

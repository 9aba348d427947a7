// Layer norm, rung 3: a warp for each row. The 32 threads of a warp run in step and can read each
// other's registers: five shuffles add up what they have, without shared memory and without a
// barrier, and all of them get the sum. Warps no longer wait for each other, so that one reads
// while another adds.
//
// The row is still read three times, twice from the caches, a number at a time: 64 bytes of
// bfloat16 in a warp's load, where 512 would fit. For 1024 columns a thread has 96 loads to ask
// for.

// The sum over the warp. Each step adds the value of the lane whose number differs in one bit.
__device__ inline float ${name}_total(float sum) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    return sum;
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type T;
    const Index row = (Index)blockIdx.x * 8 + threadIdx.x / 32, columns = (Index)$columns;
    const int lane = threadIdx.x % 32;
    if (row >= (Index)$rows) return;  // the whole warp
    const T *x = (const T *)p.v[1] + row * columns;
    const T *weight = (const T *)p.v[2], *bias = (const T *)p.v[3];
    T *out = (T *)p.v[0] + row * columns;
    float sum = 0, squares = 0;
    for (Index i = lane; i < columns; i += 32) sum += load(x[i]);
    const float mean = ${name}_total(sum) / (float)columns;
    for (Index i = lane; i < columns; i += 32) {
        squares += (load(x[i]) - mean) * (load(x[i]) - mean);
    }
    const float scale = 1.0f / sqrtf(${name}_total(squares) / (float)columns + $eps);
    for (Index i = lane; i < columns; i += 32) {
        store(out[i], (load(x[i]) - mean) * scale * load(weight[i]) + load(bias[i]));
    }
}

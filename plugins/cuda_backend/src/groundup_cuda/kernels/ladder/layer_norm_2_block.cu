// Layer norm, rung 2: a block for each row. 256 threads share a row, neighbours reading neighbours,
// and add up what they have found by a tree in shared memory: 128 of them add what the other 128
// have, then 64, and so on, with a barrier after each step.
//
// All that a load moves is used at once; the second and the third pass find the row in the caches.
// But a row has 20 barriers, and between most of them a few threads work and nobody reads: with 4
// numbers for each thread, as for 1024 columns, there is little else.

// The sum over the block, in order of a tree; every thread gets it.
__device__ inline float ${name}_total(float own) {
    __shared__ float parts[256];
    parts[threadIdx.x] = own;
    __syncthreads();
    for (int step = 128; step > 0; step /= 2) {
        if (threadIdx.x < step) parts[threadIdx.x] += parts[threadIdx.x + step];
        __syncthreads();
    }
    const float sum = parts[0];
    __syncthreads();  // before `parts` is written again
    return sum;
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type T;
    const Index row = (Index)blockIdx.x, columns = (Index)$columns;
    const T *x = (const T *)p.v[1] + row * columns;
    const T *weight = (const T *)p.v[2], *bias = (const T *)p.v[3];
    T *out = (T *)p.v[0] + row * columns;
    float sum = 0, squares = 0;
    for (Index i = threadIdx.x; i < columns; i += 256) sum += load(x[i]);
    const float mean = ${name}_total(sum) / (float)columns;
    for (Index i = threadIdx.x; i < columns; i += 256) {
        squares += (load(x[i]) - mean) * (load(x[i]) - mean);
    }
    const float scale = 1.0f / sqrtf(${name}_total(squares) / (float)columns + $eps);
    for (Index i = threadIdx.x; i < columns; i += 256) {
        store(out[i], (load(x[i]) - mean) * scale * load(weight[i]) + load(bias[i]));
    }
}

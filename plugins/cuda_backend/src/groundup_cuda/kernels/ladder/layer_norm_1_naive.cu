// Layer norm, rung 1: the formula. One thread for each row goes over it three times: for the mean,
// for the variance, and to write. (A launch before has added the residual; see rung 5.)
//
// Bytes: x and out, 268 MB for 65536 x 1024 of bfloat16, at an H100's 3 TB/s 89 us. But the 32
// threads of a warp read 32 rows at the same time, 2 KB apart: each load moves 32 pieces of 32
// bytes for 64 bytes that are used at once. The rest is used by the next loads, if the first cache
// has kept it: 1 KB for each warp in each array. And 65536 threads are only a quarter of the
// 270,000 that an H100 holds to hide what each waits for.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type T;
    const Index row = (Index)blockIdx.x * 256 + threadIdx.x, columns = (Index)$columns;
    if (row >= (Index)$rows) return;
    const T *x = (const T *)p.v[1] + row * columns;
    const T *weight = (const T *)p.v[2], *bias = (const T *)p.v[3];
    T *out = (T *)p.v[0] + row * columns;
    float mean = 0, squares = 0;
    for (Index i = 0; i < columns; ++i) mean += load(x[i]);
    mean /= (float)columns;
    for (Index i = 0; i < columns; ++i) squares += (load(x[i]) - mean) * (load(x[i]) - mean);
    const float scale = 1.0f / sqrtf(squares / (float)columns + $eps);
    for (Index i = 0; i < columns; ++i) {
        store(out[i], (load(x[i]) - mean) * scale * load(weight[i]) + load(bias[i]));
    }
}

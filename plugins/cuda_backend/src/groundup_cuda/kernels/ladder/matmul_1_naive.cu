// Matrix product, rung 1: the formula. One thread for each number of out = x y adds up a row of x
// times a column of y. Neighbouring threads take neighbouring rows, as a loop over the rows of out
// suggests, so the 32 threads of a warp read 32 places of x that lie a row apart, and write as
// many.
//
// 4096 x 4096 x 4096 are 137 GFLOP. An H100 could add up in 2 ms what it must (67 TFLOP/s of
// float32), and reads the 67 MB of two bfloat16 matrices in 22 us. But here every multiply-add asks
// for 32 lines of x, and the first cache looks up one line in a cycle, in which four warps could
// have multiplied: about 1 / 128 of the peak.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type T;
    const Index rows = (Index)$rows, inner = (Index)$inner, columns = (Index)$columns;
    const Index number = (Index)blockIdx.x * 256 + threadIdx.x;
    const Index row = number % rows, column = number / rows;
    if (column >= columns) return;
    const T *x = (const T *)p.v[1] + row * inner, *y = (const T *)p.v[2] + column;
    float sum = 0;
    for (Index k = 0; k < inner; ++k) sum += load(x[k]) * load(y[k * columns]);
    store(((T *)p.v[0])[row * columns + column], sum);
}

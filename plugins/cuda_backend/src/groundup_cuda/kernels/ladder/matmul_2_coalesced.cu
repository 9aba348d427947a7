// Matrix product, rung 2: neighbours read neighbours. The same sum, but the threads of a warp take
// 32 columns of one row: what they read of y, and write, lies side by side and moves as whole
// lines; what they read of x is one number for all of them.
//
// Two loads for each multiply-add remain. A multiprocessor of an H100 starts one load of a warp in
// a cycle, in which it could start four multiply-adds: at most 1 / 8 of the peak, 8 TFLOP/s. And
// each row of out reads all of y again: for 4096 cubed in bfloat16 137 GB from the second cache.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type T;
    const Index rows = (Index)$rows, inner = (Index)$inner, columns = (Index)$columns;
    const Index number = (Index)blockIdx.x * 256 + threadIdx.x;
    const Index row = number / columns, column = number % columns;
    if (row >= rows) return;
    const T *x = (const T *)p.v[1] + row * inner, *y = (const T *)p.v[2] + column;
    float sum = 0;
    for (Index k = 0; k < inner; ++k) sum += load(x[k]) * load(y[k * columns]);
    store(((T *)p.v[0])[number], sum);
}

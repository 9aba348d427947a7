// AdamW, rung 1: a launch for each operation, as a framework does it that has no kernel for the
// whole. Fifteen launches for each tensor; each reads its operands from memory and writes its
// result back.
//
// Bytes per float32 parameter: eleven operations read one tensor and write one, four read two: 136,
// where 28 must move (value, gradient and both moments are read, all but the gradient written). And
// each launch has a price whatever its size: at 2 us, 15 for each of 148 tensors come to 4.4 ms.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    const Index i = (Index)blockIdx.x * 256 + threadIdx.x;
    if (i >= (Index)$size) return;
    const float lr = *(const float *)p.v[3], scale = *(const float *)p.v[5], c = $constant;
    const float step = (float)*(const int *)p.v[4];
    const float a = ((const float *)p.v[1])[$first + i], b = ((const float *)p.v[2])[$second + i];
    ((float *)p.v[0])[$out + i] = $formula;
}

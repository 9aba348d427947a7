// AdamW, rung 3: vectors. A thread takes four neighbours by loads and stores of 16 bytes: a quarter
// of the instructions for memory, and four times the bytes on their way while it waits. What the
// rates come to is worked out once for four numbers.
//
// The bytes are the same, 28 for each parameter; a few percent more of the memory's speed should be
// reached on large tensors, nothing on small ones, where launches decide. Rung 4, ../optimizer.cu,
// takes all tensors in one launch: a block finds its tensor in a table of their first blocks.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    const Index size = (Index)$size, begin = ((Index)blockIdx.x * 256 + threadIdx.x) * 4;
    if (begin >= size) return;
    const float lr = *(const float *)p.v[7], step = (float)*(const int *)p.v[8];
    const float rate = lr / -expm1f(step * $log1), second = -expm1f(step * $log2);
    const float kept = 1.0f - lr * $decay, scale = *(const float *)p.v[9];
    const bool whole = begin + 4 <= size;  // the last few numbers of a tensor go one by one
    float own[4][4] = {};                  // value, gradient, both moments
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const float *from = (const float *)p.v[3 + k] + begin;
        if (whole) read<4>(own[k], from);
        else for (int e = 0; e < 4 && begin + e < size; ++e) own[k][e] = from[e];
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
        const float g = own[1][e] * scale;
        own[1][e] = own[2][e] * $beta1 + g * $rest1;
        own[2][e] = own[3][e] * $beta2 + g * g * $rest2;
        own[0][e] = own[0][e] * kept - own[1][e] * rate / (sqrtf(own[2][e] / second) + $eps);
    }
#pragma unroll
    for (int k = 0; k < 3; ++k) {
        float *to = (float *)p.v[k] + begin;
        if (whole) write<4>(to, own[k]);
        else for (int e = 0; e < 4 && begin + e < size; ++e) to[e] = own[k][e];
    }
}

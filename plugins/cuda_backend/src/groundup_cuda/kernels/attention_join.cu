// Joins what the blocks of attention_decode.cu found for each row: every part is scaled from its
// own largest score to the largest of all. One block a row; parts are added in order.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $type T;
    const long long rows = $all_rows, row = blockIdx.x;
    const int splits = (int)$splits, width = (int)$columns;
    const float *part = (const float *)p.v[1];
    const float *tops = part + rows * splits * width + row * splits,
                *totals = tops + rows * splits;
    float top = -__int_as_float(0x7f800000);
    for (int i = 0; i < splits; ++i) top = fmaxf(top, tops[i]);
    const float base = top - top == 0 ? top : 0.0f;
    for (int column = threadIdx.x; column < width; column += 256) {
        float total = 0, sum = 0;
        for (int i = 0; i < splits; ++i) {
            const float weight = expf(tops[i] - base);
            total = fmaf(totals[i], weight, total);
            sum = fmaf(part[(row * splits + i) * width + column], weight, sum);
        }
        store(((T *)p.v[0])[row * width + column], sum / (total == 0 ? 1.0f : total));
    }
}

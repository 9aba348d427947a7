// out = x @ y for strided operands, in tiles of 16 x 16 kept in shared memory: for integers, and for
// floats that cuBLAS cannot multiply on this GPU. Each block walks over several tiles of the batch.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $accumulator Value;
    __shared__ Value left[16][17], right[16][17];
    const int down = threadIdx.x / 16, along = threadIdx.x % 16;
    const Index rows = (Index)$rows, columns = (Index)$columns, inner = (Index)$inner;
    const Index wide = (columns + 15) / 16, high = (rows + 15) / 16;
    const Index tile = (Index)blockIdx.x;
    const Index column = tile % wide * 16 + along, row = tile / wide % high * 16 + down;
    const Index i = tile / (wide * high);
$index
    const $type *x = (const $type *)p.v[1] + at0, *y = (const $type *)p.v[2] + at1;
    Value total = 0;
    for (Index from = 0; from < inner; from += 16) {
        left[down][along] = row < rows && from + along < inner
            ? (Value)load(x[row * (Index)$x_row + (from + along) * (Index)$x_inner]) : (Value)0;
        right[down][along] = from + down < inner && column < columns
            ? (Value)load(y[(from + down) * (Index)$y_inner + column * (Index)$y_column]) : (Value)0;
        __syncthreads();
        for (int k = 0; k < 16; ++k) {
            total = add(total, mul(left[down][k], right[k][along]));
        }
        __syncthreads();
    }
    if (row < rows && column < columns) {
        store((($type *)p.v[0])[(i * rows + row) * columns + column], total);
    }
}

// Eight neighbouring numbers of a row of a matrix as floats: at once where memory allows it.
#ifndef ATTENTION_ROWS_OF
#define ATTENTION_ROWS_OF

__device__ inline void unpack(float (&x)[8], const float *from) {
    const float4 first = *(const float4 *)from, second = *(const float4 *)(from + 4);
    x[0] = first.x, x[1] = first.y, x[2] = first.z, x[3] = first.w;
    x[4] = second.x, x[5] = second.y, x[6] = second.z, x[7] = second.w;
}
template <typename T> __device__ inline void unpack(float (&x)[8], const T *from) {
    const uint4 bits = *(const uint4 *)from;
    const u32 words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        x[2 * i] = load(T{(unsigned short)words[i]});
        x[2 * i + 1] = load(T{(unsigned short)(words[i] >> 16)});
    }
}

template <typename T> struct Row {
    const T *start;
    long long row, column;
    int columns;
    __device__ bool whole() const {
        return column == 1 && columns % 8 == 0 && row % 8 == 0 && (u64)start % 16 == 0;
    }
    __device__ void read(float (&x)[8], int i, int j, bool whole) const {
        const T *from = start + i * row + j * column;
        if (whole && j < columns) {
            unpack(x, from);
        } else {
#pragma unroll
            for (int n = 0; n < 8; ++n) x[n] = j + n < columns ? load(from[n * column]) : 0.0f;
        }
    }
};

#endif

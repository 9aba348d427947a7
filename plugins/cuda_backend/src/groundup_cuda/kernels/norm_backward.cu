// Gradients of layer_norm and rms_norm of rows that fit into registers. x and grad are read once and
// dx is written. A fixed number of blocks walks over all rows; each thread keeps the columns that it
// owns of dweight and dbias in registers, each block writes one line of partial sums, and
// columns.cu adds those up: no atomics, the same bits every time.
//
// With c = x - mean, s = 1 / sqrt(var + eps), g = grad * weight:
// dx = (g - mean(g) - c s^2 mean(g c)) s, dweight = sum(grad c s), dbias = sum(grad).
//
// Behind a residual addition the gradient of its sum is added to dx, and dx may be written twice, the
// second time in another type. Each operand has a type of its own.
//
// Bytes: x, grad and dx, and those two if they are there. 65536 x 1024 of bfloat16: 403 MB, on an
// H100 (copy 3000 GB/s) no less than 134 us. In a mixed step, 16384 x 384 with grad in bfloat16 and dx
// in both: 101 MB, 34 us.

template <int W> __device__ inline void ${name}_rows(const Parameters<$count> &p, float *own) {
    typedef $index_type Index;
    typedef $type Type;
    typedef $grad Grad;
    typedef $vector Vector;
    typedef $out Out;
    constexpr int group = $group, packs = $packs * $width / W, groups = 256 / group;
    constexpr bool centred = $centred, added = $added, twice = $twice;
    const int lane = threadIdx.x % group, columns = (int)$columns;
    const Index rows = (Index)$rows;
    const Vector *weight = (const Vector *)p.v[3];
    float dweight[packs][W] = {}, dbias[packs][W] = {};
    for (Index i = (Index)blockIdx.x * groups + threadIdx.x / group; i < rows;
         i += (Index)$blocks * groups) {
$index
        const Type *x = (const Type *)p.v[2] + at0;
        const Grad *grad = (const Grad *)p.v[4] + at1;
        const $more *more = (const $more *)p.v[4 + added] + at2;
        float c[packs][W], g[packs][W], m[added ? packs : 1][W];
#pragma unroll
        for (int k = 0; k < packs; ++k) {
            const int column = (k * group + lane) * W;
#pragma unroll
            for (int e = 0; e < W; ++e) c[k][e] = g[k][e] = 0.0f;
            if (column < columns) {
                read<W>(c[k], x + column);
                read<W>(g[k], grad + column);
                if constexpr (added) read<W>(m[k], more + column);
            }
        }
        if constexpr (centred) {
            float mean = 0.0f;
#pragma unroll
            for (int k = 0; k < packs; ++k) {
#pragma unroll
                for (int e = 0; e < W; ++e) mean += c[k][e];
            }
            mean = total<group>(mean) / (float)columns;
#pragma unroll
            for (int k = 0; k < packs; ++k) {
                if ((k * group + lane) * W < columns) {
#pragma unroll
                    for (int e = 0; e < W; ++e) c[k][e] -= mean;
                }
            }
        }
        float sums[3] = {};  // of c * c, g * c and g
#pragma unroll
        for (int k = 0; k < packs; ++k) {
            const int column = (k * group + lane) * W;
            if (column < columns) {
                float w[W];
                read<W>(w, weight + column);
#pragma unroll
                for (int e = 0; e < W; ++e) {
                    sums[0] += c[k][e] * c[k][e];
                    sums[1] += g[k][e] * w[e] * c[k][e];
                    sums[2] += g[k][e] * w[e];
                }
            }
        }
        joined<group, Sum>(sums);
        const float s = 1.0f / sqrtf(sums[0] / (float)columns + $eps);
        const float along = sums[1] / (float)columns * s * s;
        const float mean = centred ? sums[2] / (float)columns : 0.0f;
        Out *dx = (Out *)p.v[0] + i * columns;
#pragma unroll
        for (int k = 0; k < packs; ++k) {
            const int column = (k * group + lane) * W;
            if (column < columns) {
                float w[W], d[W];
                read<W>(w, weight + column);
#pragma unroll
                for (int e = 0; e < W; ++e) {
                    d[e] = (g[k][e] * w[e] - mean - c[k][e] * along) * s;
                    if constexpr (added) d[e] += m[k][e];
                    dweight[k][e] += g[k][e] * c[k][e] * s;
                    if constexpr (centred) dbias[k][e] += g[k][e];
                }
                write<W>(dx + column, d);
                if constexpr (twice) {
                    write<W>(($again *)p.v[5 + added] + i * columns + column, d);
                }
            }
        }
    }
    // The groups of a block, and then one line per block: dweight, then dbias.
    float *line = (float *)p.v[1] + (Index)blockIdx.x * (1 + centred) * columns;
#pragma unroll
    for (int which = 0; which < 1 + centred; ++which, line += columns) {
#pragma unroll
        for (int k = 0; k < packs; ++k) {
#pragma unroll
            for (int e = 0; e < W; ++e) {
                own[(k * W + e) * 256 + threadIdx.x] = which ? dbias[k][e] : dweight[k][e];
            }
        }
        __syncthreads();
        for (int column = threadIdx.x; column < columns; column += 256) {
            const int k = column / (group * W), owner = column / W % group, e = column % W;
            float sum = 0.0f;
            for (int other = 0; other < groups; ++other) {
                sum += own[(k * W + e) * 256 + other * group + owner];
            }
            line[column] = sum;
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    __shared__ float own[256 * $packs * $width];
    if ($width > 1 && aligned<$addresses>(p)) ${name}_rows<$width>(p, own);
    else ${name}_rows<1>(p, own);
}

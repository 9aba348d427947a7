// The gradient of group_norm for x, from the sums that channel_sums.cu has left: one warp or one block
// per group of a sample. With g = grad weight, dx = (g - mean(g) - y mean(g y)) scale.
//
// Bytes: x, grad and dx once. 32 x 256 x 56 x 56 of float32: 308 MB, on an H100 (copy 3000 GB/s) no
// less than 103 us.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type Type;
    constexpr int group = $group;
    const Index rows = (Index)$rows, groups = (Index)$groups, columns = (Index)$columns;
    const Index i = (Index)blockIdx.x * (256 / group) + threadIdx.x / group;
    if (i >= rows) return;
$index
    const Index area = (Index)$area, each = columns / area, channel = i % groups * each;
    const Type *x = (const Type *)p.v[1] + at0, *grad = (const Type *)p.v[3] + at1;
    const Type *weight = (const Type *)p.v[2];
    const float *sums = (const float *)p.v[4] + i / groups * (2 * groups * each) + channel;
    const float *kept = (const float *)p.v[4] + $kept;
    const float mean = kept[i], scale = kept[rows + i];
    float along[2] = {0.0f, 0.0f};  // sums of g y and of g
    for (Index c = threadIdx.x % group; c < each; c += group) {
        const float w = load(weight[(channel + c) * (Index)$weight_step]);
        along[0] += w * sums[c];
        along[1] += w * sums[groups * each + c];
    }
    joined<group, Sum>(along);
    const float tilt = along[0] / (float)columns, level = along[1] / (float)columns;
    Type *dx = (Type *)p.v[0] + i * columns;
#pragma unroll 4
    for (Index j = threadIdx.x % group; j < columns; j += group) {
$inner
        const float w = load(weight[(channel + j / area) * (Index)$weight_step]);
        const float y = (load(x[column0]) - mean) * scale, g = load(grad[column1]) * w;
        store(dx[j], (g - level - y * tilt) * scale);
    }
}

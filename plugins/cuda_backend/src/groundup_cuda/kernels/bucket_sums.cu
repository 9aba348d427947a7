// The second half: each target's row is x plus its sources, in the order of their positions. A warp
// adds up a target with few sources by itself; the eight warps of a block share one with many, each
// every eighth part of the bucket, and are added in order.
//
// Bytes: source read once, x read and out written. GPT-2's embedding, 16 x 1024 ids, 50304 x 768 of
// bfloat16: 102 MB (x is an expanded zero), on an H100 (copy 3000 GB/s) no less than 34 us.

// Adds the sources of `target` in every `stride`th part of 32 entries.
template <int W> __device__ inline void ${name}_add(
    float (&sum)[W], const uint2 *list, int many, u32 target, const $type *source, bool inside,
    long long step, int first, int stride) {
    const int lane = threadIdx.x % 32;
    for (int from = first * 32; from < many; from += stride * 32) {
        uint2 entry = {0, 0};
        const bool valid = from + lane < many;
        if (valid) entry = list[from + lane];
        u32 mask = __ballot_sync(0xffffffffu, valid && entry.y == target);
        while (mask) {
            float v[4][W];
            int taken = 0;
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const int from_lane = mask ? __ffs(mask) - 1 : 0;
                const u32 position = __shfl_sync(0xffffffffu, entry.x, from_lane);
                if (mask) ++taken;
                if (k < taken && inside) read<W>(v[k], source + (long long)position * step);
                mask &= mask - 1;
            }
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                if (k < taken && inside) {
#pragma unroll
                    for (int e = 0; e < W; ++e) sum[e] += v[k][e];
                }
            }
        }
    }
}

template <int W> __device__ inline void ${name}_block(const Parameters<$count> &p) {
    typedef $index_type Index;
    constexpr int rows = $rows_each, few = 32;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Index columns = (Index)$columns, targets = (Index)$targets, buckets = (Index)$buckets;
    const Index tiles = (columns + 32 * $width - 1) / (32 * $width);
    const Index sets = (targets + rows - 1) / rows;
    const Index tile = (Index)blockIdx.x % tiles, set = (Index)blockIdx.x / tiles % sets;
    const Index i = (Index)blockIdx.x / tiles / sets;
$index
    const uint2 *starts = (const uint2 *)p.v[3];
    const uint2 *lists = starts + (Index)$lists * buckets + i * (Index)$many;
    __shared__ float parts[8][32 * W];
#pragma unroll 1
    for (int part = 0; part < $width / W; ++part) {
        const Index j = tile * (32 * $width) + (part * 32 + lane) * W;
        const bool inside = j < columns;
$inner
        const $type *source = (const $type *)p.v[2] + source_i + source_j;
#pragma unroll 1
        for (int row = 0; row < rows; ++row) {
            const Index target = set * rows + row;
            if (target >= targets) break;
            const uint2 start = starts[i * buckets + target / $wide];
            const uint2 *list = lists + start.x;
            const bool shared = rows == 1 || start.y > few;
            if (!shared && warp != row) continue;
            float sum[W] = {};
            ${name}_add<W>(sum, list, (int)start.y, (u32)(target % $wide), source, inside, $step,
                           shared ? warp : 0, shared ? 8 : 1);
            if (shared) {
#pragma unroll
                for (int e = 0; e < W; ++e) parts[warp][e * 32 + lane] = sum[e];
                __syncthreads();
                if (warp == 0) {
#pragma unroll
                    for (int e = 0; e < W; ++e) {
                        for (int w = 1; w < 8; ++w) sum[e] += parts[w][e * 32 + lane];
                    }
                }
                __syncthreads();
                if (warp != 0) continue;
            }
            if (inside) {
                const $type *x = (const $type *)p.v[1] + x_i + x_j + target * (Index)$x_row;
#pragma unroll
                for (int e = 0; e < W; ++e) sum[e] += load(x[e * (Index)$x_step]);
                write<W>(($type *)p.v[0] + place_i + place_j + target * (Index)$row, sum);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    if ($width > 1 && aligned<3>(p)) ${name}_block<$width>(p);
    else ${name}_block<1>(p);
}

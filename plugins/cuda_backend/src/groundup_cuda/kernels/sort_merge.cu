// Merges sorted runs of a line two by two. A block finds out where its 2048 items of the result come
// from, which are neighbours in both runs, and merges them in shared memory.
//
// Bytes: every item read and written once, 8 each (16 of 64-bit values); 4096 x 4096 items: 268 MB,
// on an H100 (copy 3000 GB/s) no less than 89 us for each of the rounds, log2(length / 2048).
$items
extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $item Item;
    constexpr int each = 8, all = 256 * each;
    __shared__ Item items[all];
    __shared__ Index ends[2];
    const Index length = (Index)$length, run = (Index)$run, blocks = (Index)$blocks;
    const Index i = (Index)blockIdx.x / blocks, begin = (Index)blockIdx.x % blocks * all;
    const Index start = begin / (2 * run) * (2 * run), left = length - start;
    const Index size_a = left < run ? left : run;
    const Index size_b = left - size_a < run ? left - size_a : run;
    const Item *a = (const Item *)p.v[3] + $source + i * length + start, *b = a + size_a;
    const Index upto = begin - start, more = size_a + size_b - upto;
    const int many = more < all ? (int)more : all;
    if (threadIdx.x < 2) {
        const Index here = upto + (threadIdx.x == 0 ? 0 : many);
        ends[threadIdx.x] = taken_of_first(a, size_a, b, size_b, here);
    }
    __syncthreads();
    const Index from_a = ends[0], from_b = upto - from_a;
    const int count_a = (int)(ends[1] - from_a);
    for (int j = threadIdx.x; j < all; j += 256) {
        if (j >= many) set_last(items[j]);
        else items[j] = j < count_a ? a[from_a + j] : b[from_b + j - count_a];
    }
    __syncthreads();
    Item mine[each];
    const int first = threadIdx.x * each;
    merged(mine, items, count_a, items + count_a, all - count_a, first);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < each; ++k) items[first + k] = mine[k];
    __syncthreads();
    if constexpr ($final) {
        const $type *x = (const $type *)p.v[2];
$index
        for (int j = threadIdx.x; j < many; j += 256) {
            const Index at = begin + j;
            if (at >= (Index)$kept) break;
            const Index chosen = (Index)place_of(items[j]);
            (($type *)p.v[0])[place + at * (Index)$out_step] = x[at0 + chosen * (Index)$step];
            ((int *)p.v[1])[place + at * (Index)$out_step] = (int)chosen;
        }
    } else {
        Item *to = (Item *)p.v[3] + $target + i * length + begin;
        for (int j = threadIdx.x; j < many; j += 256) to[j] = items[j];
    }
}

// What the kernels of sort and topk share. An item is a key, a number that sorts as the value does,
// and the element's place in its line: no two items of a line are equal, so that equal values keep
// their order whatever the way of sorting.
#ifndef SORT_ITEMS
#define SORT_ITEMS

struct wide_item {  // of 64-bit values; of all others key and place are the halves of one number
    u64 key, place;
};

__device__ inline bool before(u64 a, u64 b) { return a < b; }
__device__ inline bool before(const wide_item &a, const wide_item &b) {
    return a.key < b.key || (a.key == b.key && a.place < b.place);
}
__device__ inline u32 place_of(u64 item) { return (u32)item; }
__device__ inline u32 place_of(const wide_item &item) { return (u32)item.place; }
__device__ inline u64 item_of(u32 key, u32 place) { return (u64)key << 32 | place; }
__device__ inline wide_item item_of(u64 key, u32 place) {
    wide_item item = {key, place};
    return item;
}

// NaN is the largest, and both zeros are equal.
__device__ inline u32 sort_key(float x) {
    const u32 bits = __float_as_uint(x == 0.0f ? 0.0f : x);
    return x != x ? ~0u : bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline u32 sort_key(int x) { return (u32)x ^ 0x80000000u; }
__device__ inline u32 sort_key(u8 x) { return (u32)x; }
__device__ inline u32 sort_key(signed char x) { return sort_key((int)x); }
__device__ inline u64 sort_key(long long x) { return (u64)x ^ 0x8000000000000000ull; }

// Behind every item: a place has 31 bits.
__device__ inline void set_last(u64 &item) { item = ~0ull; }
__device__ inline void set_last(wide_item &item) { item.key = item.place = ~0ull; }

// How many of the first `upto` items of two sorted runs, merged, are of a (merge path: Odeh et al.,
// 2012).
template <typename Item, typename Index>
__device__ inline Index taken_of_first(
    const Item *a, Index size_a, const Item *b, Index size_b, Index upto) {
    Index low = upto > size_b ? upto - size_b : 0, high = upto < size_a ? upto : size_a;
    while (low < high) {
        const Index middle = low + (high - low) / 2;
        if (before(b[upto - 1 - middle], a[middle])) high = middle;
        else low = middle + 1;
    }
    return low;
}

// The next N items of two sorted runs, merged, after the first `upto`. There are as many.
template <int N, typename Item>
__device__ inline void merged(
    Item (&to)[N], const Item *a, int size_a, const Item *b, int size_b, int upto) {
    int at_a = taken_of_first(a, size_a, b, size_b, upto), at_b = upto - at_a;
#pragma unroll
    for (int k = 0; k < N; ++k) {
        const bool first = at_b >= size_b || (at_a < size_a && before(a[at_a], b[at_b]));
        to[k] = first ? a[at_a++] : b[at_b++];
    }
}

#endif

// Where a window's tap lies on one axis of an image.
#ifndef CONV_PLACES
#define CONV_PLACES

// Turns the distance `at` from the image's first element into a place; whether there is one. With
// GAPS the windows are those of the output, and a tap meets only every `stride`th element of it.
template <bool GAPS, typename Index>
__device__ inline bool meets(Index &at, Index stride, Index size) {
    if constexpr (GAPS) {
        if (at < 0 || at % stride != 0) return false;
        at /= stride;
    }
    return at >= 0 && at < size;
}

#endif

// Shared by all kernels: narrow floats, conversions, and arithmetic with defined results.
// No header is included: NVRTC then needs none, and compiles in milliseconds.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// Values that a kernel is given: pointers, sizes, strides and numbers, 64 bits each.
template <int N> struct Parameters {
    long long v[N];
};

// float16 and bfloat16 as stored. Arithmetic on them is done in float and rounded once.
struct half_t {
    unsigned short bits;
};
struct bfloat_t {
    unsigned short bits;
};

// ---- what is stored, and what is computed with ----

__device__ inline float load(float x) { return x; }
__device__ inline int load(int x) { return x; }
__device__ inline long long load(long long x) { return x; }
__device__ inline u8 load(u8 x) { return x; }
__device__ inline u16 load(u16 x) { return x; }
__device__ inline signed char load(signed char x) { return x; }
__device__ inline bool load(bool x) { return x; }
__device__ inline float load(half_t x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
__device__ inline float load(bfloat_t x) { return __uint_as_float((u32)x.bits << 16); }

__device__ inline void store(half_t &out, float x) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));
}

__device__ inline void store(u16 &out, u16 x) { out = x; }

// Round to nearest, ties to even; NaN stays NaN.
__device__ inline void store(bfloat_t &out, float x) {
    u32 bits = __float_as_uint(x);
    u32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    out.bits = (unsigned short)(x != x ? (bits >> 16) | 0x40u : rounded);
}

// Floats become integers by truncation and saturation, NaN by 0.
__device__ inline long long truncated(float x, long long low, long long high) {
    if (x != x) return 0;
    if (x >= (float)high) return high;
    if (x <= (float)low) return low;
    return (long long)x;
}

template <typename T> struct Limits;
template <> struct Limits<u8> {
    static constexpr long long low = 0, high = 255;
};
template <> struct Limits<signed char> {
    static constexpr long long low = -128, high = 127;
};
template <> struct Limits<int> {
    static constexpr long long low = -2147483647LL - 1, high = 2147483647LL;
};
template <> struct Limits<long long> {
    static constexpr long long low = -9223372036854775807LL - 1, high = 9223372036854775807LL;
};

// What every other value is at least, and at most.
template <typename T> struct Extremes {
    static __device__ T lowest() { return (T)Limits<T>::low; }
    static __device__ T highest() { return (T)Limits<T>::high; }
};
template <> struct Extremes<float> {
    static __device__ float lowest() { return -__int_as_float(0x7f800000); }
    static __device__ float highest() { return __int_as_float(0x7f800000); }
};

template <typename T> __device__ inline void store(T &out, float x) {
    out = (T)truncated(x, Limits<T>::low, Limits<T>::high);
}
__device__ inline void store(float &out, float x) { out = x; }
__device__ inline void store(bool &out, float x) { out = x != 0.0f; }
// Integers to integers keep the low bits.
template <typename T> __device__ inline void store_integer(T &out, long long x) { out = (T)x; }
__device__ inline void store_integer(bool &out, long long x) { out = x != 0; }
__device__ inline void store_integer(half_t &out, long long x) { store(out, (float)x); }
__device__ inline void store_integer(bfloat_t &out, long long x) { store(out, (float)x); }
template <typename T> __device__ inline void store(T &out, long long x) { store_integer(out, x); }
template <typename T> __device__ inline void store(T &out, int x) {
    store_integer(out, (long long)x);
}
template <typename T> __device__ inline void store(T &out, bool x) {
    store_integer(out, (long long)x);
}
template <typename T> __device__ inline void store(T &out, u8 x) {
    store_integer(out, (long long)x);
}
template <typename T> __device__ inline void store(T &out, signed char x) {
    store_integer(out, (long long)x);
}

// Numbers of the host: floats as the bits of a double.
template <typename T> __device__ inline T number(long long bits) { return (T)bits; }
template <> __device__ inline float number<float>(long long bits) {
    return (float)__longlong_as_double(bits);
}
template <> __device__ inline double number<double>(long long bits) {
    return __longlong_as_double(bits);
}

// ---- arithmetic; integers wrap, which signed C++ leaves undefined ----

#define WRAPPING(name, operation)                                                          \
    __device__ inline float name(float a, float b) { return a operation b; }               \
    __device__ inline int name(int a, int b) { return (int)((u32)a operation (u32)b); }    \
    __device__ inline long long name(long long a, long long b) {                           \
        return (long long)((u64)a operation (u64)b);                                       \
    }
WRAPPING(add, +)
WRAPPING(sub, -)
WRAPPING(mul, *)

__device__ inline float neg(float a) { return -a; }
__device__ inline int neg(int a) { return (int)(0u - (u32)a); }
__device__ inline long long neg(long long a) { return (long long)(0ull - (u64)a); }
__device__ inline float absolute(float a) { return fabsf(a); }
template <typename T> __device__ inline T absolute(T a) { return a < 0 ? (T)neg(a) : a; }
__device__ inline bool absolute(bool a) { return a; }
template <typename T> __device__ inline T sign(T a) { return a > 0 ? (T)1 : a < 0 ? (T)-1 : a; }

// NaN if either is.
template <typename T> __device__ inline T maximum(T a, T b) { return a > b || a != a ? a : b; }
template <typename T> __device__ inline T minimum(T a, T b) { return a < b || a != a ? a : b; }

// Floor division and its remainder, which has the divisor's sign. Integers divided by 0 give 0.
template <typename T> __device__ inline T floor_divide(T a, T b) {
    if (b == 0) return 0;
    if (b == (T)-1) return (T)neg(a);
    T q = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}
template <typename T> __device__ inline T modulo(T a, T b) {
    if (b == 0 || b == (T)-1) return 0;
    T r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
__device__ inline u8 floor_divide(u8 a, u8 b) { return b == 0 ? 0 : a / b; }
__device__ inline u8 modulo(u8 a, u8 b) { return b == 0 ? 0 : a % b; }
__device__ inline float modulo(float a, float b) {
    float r = fmodf(a, b);
    if (r == 0.0f) return copysignf(0.0f, b);
    return (r < 0.0f) != (b < 0.0f) ? r + b : r;
}
__device__ inline float floor_divide(float a, float b) {
    if (b == 0.0f) return a / b;
    float r = fmodf(a, b);
    float q = (a - r) / b;
    if (r != 0.0f && (r < 0.0f) != (b < 0.0f)) q -= 1.0f;
    if (q == 0.0f) return copysignf(0.0f, a / b);
    float whole = floorf(q);
    return q - whole > 0.5f ? whole + 1.0f : whole;
}

// ---- activations ----

__device__ inline float sigmoid(float x) {
    float small = expf(-fabsf(x));
    return (x >= 0.0f ? 1.0f : small) / (small + 1.0f);
}
__device__ inline float silu_backward(float x, float grad) {
    float s = sigmoid(x);
    return grad * s * (1.0f + x * (1.0f - s));
}
__device__ inline float gelu_none(float x) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}
__device__ inline float gelu_none_backward(float x, float grad) {
    float density = expf(-0.5f * x * x) * 0.39894228040143268f;
    return grad * (0.5f * (1.0f + erff(x * 0.70710678118654752f)) + x * density);
}
__device__ inline float gelu_tanh(float x) {
    return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
}
__device__ inline float gelu_tanh_backward(float x, float grad) {
    float square = x * x;
    float t = tanhf(0.79788456080286536f * (x + 0.044715f * x * square));
    float slope = 0.79788456080286536f * (1.0f + 3.0f * 0.044715f * square);
    return grad * (0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * slope);
}

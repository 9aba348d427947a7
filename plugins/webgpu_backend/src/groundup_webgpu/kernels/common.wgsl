// Shared by all kernels: the parameters, NaN, and functions that WGSL lacks or leaves imprecise.

fn param(i: u32) -> i32 {
    return params[i / 4u][i % 4u];
}

// Comparisons with NaN may be folded away; the bits cannot.
fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn is_infinite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u;
}

// Not constants, which WGSL would refuse: an offset is never negative.
fn infinity() -> f32 {
    return bitcast<f32>((bitcast<u32>(param(0u)) >> 31u) | 0x7f800000u);
}

fn nan() -> f32 {
    return bitcast<f32>((bitcast<u32>(param(0u)) >> 31u) | 0x7fc00000u);
}

fn maximum_f32(a: f32, b: f32) -> f32 {
    return select(select(max(a, b), b, is_nan(b)), a, is_nan(a));
}

fn minimum_f32(a: f32, b: f32) -> f32 {
    return select(select(min(a, b), b, is_nan(b)), a, is_nan(a));
}

fn maximum_i32(a: i32, b: i32) -> i32 {
    return max(a, b);
}

fn minimum_i32(a: i32, b: i32) -> i32 {
    return min(a, b);
}

// Floor division and its remainder, for divisors of either sign; 0 for a divisor of 0.
fn floor_divide_i32(a: i32, b: i32) -> i32 {
    if (b == 0) {
        return 0;
    }
    let q = a / b;
    return select(q, q - 1, (a % b != 0) && ((a < 0) != (b < 0)));
}

fn remainder_i32(a: i32, b: i32) -> i32 {
    if (b == 0) {
        return 0;
    }
    return a - floor_divide_i32(a, b) * b;
}

fn floor_divide_f32(a: f32, b: f32) -> f32 {
    if (is_infinite(a) && b != 0.0) {
        return nan();
    }
    if (is_infinite(b) && !is_nan(a)) {
        return select(0.0, -1.0, a != 0.0 && ((a < 0.0) != (b < 0.0)));
    }
    return floor(a / b);
}

// What is left of a by whole multiples of b, with the sign of a: exact, by long division of the
// significands, a bit at a time (as in fdlibm's fmod).
fn left_of(a: f32, b: f32) -> f32 {
    let x = bitcast<u32>(a) & 0x7fffffffu;
    let y = bitcast<u32>(b) & 0x7fffffffu;
    if (x >= 0x7f800000u || y > 0x7f800000u || y == 0u) {
        return nan();
    }
    if (x < y) {
        return select(a, 0.0, x == 0u);
    }
    let scale = max(y >> 23u, 1u);
    let divisor = (y & 0x007fffffu) | select(0u, 0x00800000u, y >= 0x00800000u);
    var rest = ((x & 0x007fffffu) | select(0u, 0x00800000u, x >= 0x00800000u)) % divisor;
    for (var turns = max(x >> 23u, 1u) - scale; turns > 0u; turns -= 1u) {
        rest = rest << 1u;
        rest -= select(0u, divisor, rest >= divisor);
    }
    // The two powers of two are normal numbers, where their product may not be one.
    let size = f32(rest) * bitcast<f32>(0x34000000u) * bitcast<f32>(scale << 23u);
    return select(size, -size, bitcast<u32>(a) >= 0x80000000u && rest != 0u);
}

fn remainder_f32(a: f32, b: f32) -> f32 {
    let r = left_of(a, b);
    return select(r, r + b, r != 0.0 && ((r < 0.0) != (b < 0.0)));
}

// WGSL's pow is exp2(y * log2(x)), undefined below 0.
fn pow_f32(x: f32, y: f32) -> f32 {
    if (y == 0.0 || x == 1.0) {
        return 1.0;
    }
    if (is_nan(x) || is_nan(y)) {
        return x + y;
    }
    if (y == 1.0) {
        return x;
    }
    if (y == 2.0) {
        return x * x;
    }
    var size = select(pow(abs(x), y), 1.0, abs(x) == 1.0);
    if (x == 0.0) {
        size = select(0.0, infinity(), y < 0.0);
    }
    if (bitcast<u32>(x) < 0x80000000u) {
        return size;
    }
    if (floor(y) != y) {
        return select(nan(), size, x == 0.0 || is_infinite(x));
    }
    return select(size, -size, floor(y * 0.5) != y * 0.5);
}

// WGSL allows 3 + 2 |x| ULP, of which drivers make use and some a little more. Here x = n ln 2 + r, and
// exp(r) by a polynomial (Cephes, expf): 1 ULP.
fn exp_f32(x: f32) -> f32 {
    if (!(abs(x) < 87.0)) {
        return select(exp(x), x, is_nan(x));
    }
    let n = round(x * 1.4426950408889634);
    let r = (x - n * 0.693359375) + n * 2.12194440e-4;
    let tail = 4.1665795894e-2 + r * (8.3334519073e-3 + r * (1.3981999507e-3 + r * 1.9875691500e-4));
    let power = 1.0 + (r + r * r * (5.0000001201e-1 + r * (1.6666665459e-1 + r * tail)));
    return power * bitcast<f32>((i32(n) + 127) << 23u);
}

// WGSL allows 3 ULP, which NVIDIA's driver exceeds by a little, and says nothing of what is not a
// positive normal number. Here x = 2^k m, m within sqrt(1/2) and sqrt(2), and
// log(m) = 2 artanh((m - 1) / (m + 1)) (as in fdlibm).
fn log_f32(x: f32) -> f32 {
    var normal = x;
    var shift = 127.0;
    if (bitcast<u32>(x) - 0x00800000u >= 0x7f000000u) {
        if (is_nan(x) || bitcast<u32>(x) == 0x7f800000u) {
            return x;
        }
        if (x < 0.0) {
            return nan();
        }
        normal = x * 16777216.0;
        shift += 24.0;
        if (normal == 0.0) {
            return -infinity();
        }
    }
    let high = bitcast<u32>(normal) + 0x004afb0du;
    let k = f32(high >> 23u) - shift;
    let m = bitcast<f32>((high & 0x007fffffu) + 0x3f3504f3u);
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let tail = 1.0 / 7.0 + z * (1.0 / 9.0 + z / 11.0);
    let small = 2.0 * s * (1.0 + z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * tail)));
    return k * 0.693359375 + (small - k * 2.12194440e-4);
}

fn expm1_f32(x: f32) -> f32 {
    if (abs(x) < 0.5) {
        let tail = 1.0 / 120.0 + x * (1.0 / 720.0 + x * (1.0 / 5040.0 + x / 40320.0));
        return x + x * x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * tail)));
    }
    return select(exp(x) - 1.0, x, is_nan(x));
}

fn log1p_f32(x: f32) -> f32 {
    if (abs(x) < 0.25) {
        // 2 artanh(x / (2 + x))
        let s = x / (2.0 + x);
        let z = s * s;
        let tail = 1.0 / 7.0 + z * (1.0 / 9.0 + z / 11.0);
        return 2.0 * s * (1.0 + z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * tail)));
    }
    return log_f32(1.0 + x);
}

fn tanh_f32(x: f32) -> f32 {
    if (is_nan(x)) {
        return x;
    }
    let a = min(abs(x), 10.0);
    if (a < 0.5) {
        let e = expm1_f32(2.0 * a);
        return sign(x) * (e / (e + 2.0));
    }
    return sign(x) * (1.0 - 2.0 / (exp(2.0 * a) + 1.0));
}

// x P(x^2) / Q(x^2), our minimax fit on (0, 4].
fn erf_f32(x: f32) -> f32 {
    if (is_nan(x)) {
        return x;
    }
    let c = clamp(x, -4.0, 4.0);
    let u = c * c;
    let top = 1.1283791680585982 + u * (0.17715332344768817 + u * (0.05258551922959972
        + u * (0.00344900037819333 + u * (0.00033976842028137514 + u * (3.3073168337861318e-06
        + u * (2.792007152617822e-09 + u * -1.44522580046872e-10))))));
    let bottom = 1.0 + u * (0.49033141416648096 + u * (0.11004626340156926
        + u * (0.0145157262195399 + u * (0.0011790508063643991 + u * 5.286772362879758e-05))));
    return clamp(c * top / bottom, -1.0, 1.0);
}

fn sigmoid_f32(x: f32) -> f32 {
    let small = exp(-abs(x));
    return select(small, 1.0, x >= 0.0) / (1.0 + small);
}

fn gelu_tanh(x: f32) -> f32 {
    return 0.5 * x * (1.0 + tanh_f32(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

fn gelu_tanh_backward(x: f32, grad: f32) -> f32 {
    let square = x * x;
    let t = tanh_f32(0.7978845608028654 * (x + 0.044715 * x * square));
    let slope = 0.7978845608028654 * (1.0 + 3.0 * 0.044715 * square);
    return grad * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope);
}

fn gelu_none(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf_f32(x * 0.7071067811865476));
}

fn gelu_none_backward(x: f32, grad: f32) -> f32 {
    let density = exp(-0.5 * x * x) * 0.3989422804014327;
    return grad * (0.5 * (1.0 + erf_f32(x * 0.7071067811865476)) + x * density);
}

fn silu_backward(x: f32, grad: f32) -> f32 {
    let s = sigmoid_f32(x);
    return grad * s * (1.0 + x * (1.0 - s));
}

// Truncated, saturated, 0 for NaN.
fn to_i32(x: f32) -> i32 {
    if (is_nan(x)) {
        return 0;
    }
    if (x >= 2147483648.0) {
        return 2147483647;
    }
    if (x <= -2147483648.0) {
        return -2147483647 - 1;
    }
    return i32(x);
}

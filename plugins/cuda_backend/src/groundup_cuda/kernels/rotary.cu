// Rotary positions (Su et al., 2021): a thread turns one pair (x[i], x[i + D / 2]) by the angle
// position theta^(-2 i / D). Moves each number once: reads and writes are all it costs.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    const Index i = (Index)blockIdx.x * 256 + (Index)threadIdx.x;
    if (i >= (Index)$size) return;
    $index const Index half = (Index)$half;
    const float power = expf((float)(i % half) * $rate);
    const float angle = (float)load(((const $in1 *)p.v[2])[at1]) * power;
    const float cosine = cosf(angle), sine = $sign sinf(angle);
    const $out *from = (const $out *)p.v[1] + at0;
    const float first = load(from[0]), second = load(from[half * (Index)$step]);
    $out *to = ($out *)p.v[0] + place;
    store(to[0], first * cosine - second * sine);
    store(to[half], second * cosine + first * sine);
}

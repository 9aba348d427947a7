// AdamW, Adam and SGD: all parameters in one launch. A block finds the tensor that its elements
// belong to by bisection; learning rate, step and scale are read from the device, so that a recorded
// launch can be replayed while they change.
//
// Parameters: per tensor the addresses of its outputs (value and states), of its value, gradient and
// states; then those of lr, step and scale; then all sizes, first blocks and weight decays.
//
// Bytes per float32 parameter: 16 read and 12 written by AdamW. 130M: 3.6 GB, on an H100 (copy
// 3000 GB/s) no less than 1.21 ms.

struct ${name}_rates {
    float lr, step, scale, decay, size, second;
};

// `own` is the value and its states, before and after.
__device__ inline void ${name}_one(
    const Parameters<$count> &p, float (&own)[1 + $states], float grad, const ${name}_rates &at) {
    float g = grad * at.scale;
    if constexpr ($adam) {
        constexpr bool decoupled = $decoupled;
        if (decoupled) own[0] *= 1.0f - at.lr * at.decay;
        else if (at.decay != 0.0f) g += own[0] * at.decay;
        own[1] = own[1] * $beta1 + g * $rest1;
        own[$states] = own[$states] * $beta2 + g * g * $rest2;
        own[0] -= own[1] * at.size / (sqrtf(own[$states] / at.second) + $eps);
    } else {
        if (at.decay != 0.0f) g += own[0] * at.decay;
        if constexpr ($states > 0) {
            own[$states] = at.step <= 1.0f ? g : own[$states] * $momentum + g * $undamped;
            g = $nesterov ? g + own[$states] * $momentum : own[$states];
        }
        own[0] -= g * at.lr;
    }
}

template <int W> __device__ inline void ${name}_block(
    const Parameters<$count> &p, int first, $index_type begin, $index_type size,
    const ${name}_rates &at) {
    typedef $index_type Index;
    typedef $type Type;
    typedef $state State;
    constexpr int states = $states;
#pragma unroll
    for (int turn = 0; turn < $chunk / 256 / W; ++turn) {
        const Index i = begin + (turn * 256 + (int)threadIdx.x) * W;
        if (i < size) {
            float v[1 + states][W], g[W];
            read<W>(v[0], (const Type *)p.v[first + 1 + states] + i);
            read<W>(g, (const $grad *)p.v[first + 2 + states] + i);
#pragma unroll
            for (int s = 0; s < states; ++s) {
                read<W>(v[1 + s], (const State *)p.v[first + 3 + states + s] + i);
            }
#pragma unroll
            for (int e = 0; e < W; ++e) {
                float one[1 + states];
#pragma unroll
                for (int s = 0; s <= states; ++s) one[s] = v[s][e];
                ${name}_one(p, one, g[e], at);
#pragma unroll
                for (int s = 0; s <= states; ++s) v[s][e] = one[s];
            }
            write<W>((Type *)p.v[first] + i, v[0]);
#pragma unroll
            for (int s = 0; s < states; ++s) write<W>((State *)p.v[first + 1 + s] + i, v[1 + s]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) $name(
    const __grid_constant__ Parameters<$count> p) {
    typedef $index_type Index;
    constexpr int states = $states, tensors = $tensors, each = 3 + 2 * states;
    constexpr int sizes = tensors * each + 3, starts = sizes + tensors, decays = starts + tensors;
    const int which = tensor_of<tensors, $bisection>(p, starts);
    ${name}_rates at;
    at.lr = load(((const $lr *)p.v[sizes - 3])[0]);
    at.step = (float)load(((const $step *)p.v[sizes - 2])[0]);
    at.scale = load(((const $scale *)p.v[sizes - 1])[0]);
    at.decay = number<float>(p.v[decays + which]);
    if constexpr ($adam) {  // 1 - beta^step without the cancellation that it has for small steps
        at.size = at.lr / -expm1f(at.step * $log1);
        at.second = -expm1f(at.step * $log2);
    }
    const Index size = (Index)p.v[sizes + which];
    const Index begin = ((Index)blockIdx.x - (Index)p.v[starts + which]) * $chunk;
    long long all = 0;
#pragma unroll
    for (int k = 0; k < each; ++k) all |= p.v[which * each + k];
    // What is left over at a tensor's end is done one element at a time.
    if ((all & 15) == 0 && (begin + $chunk <= size || size % 4 == 0)) {
        ${name}_block<4>(p, which * each, begin, size, at);
    } else {
        ${name}_block<1>(p, which * each, begin, size, at);
    }
}

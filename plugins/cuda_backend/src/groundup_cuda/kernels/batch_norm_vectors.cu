// The gradients of batch_norm's vectors from the lines that channel_sums.cu has left: eight threads per
// channel, each every eighth line, then those eight in order.

extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $index_type Index;
    typedef $type Type;
    __shared__ float parts[2][8][33];
    const int along = threadIdx.x % 32, down = threadIdx.x / 32;
    const Index channels = (Index)$channels, lines = (Index)$lines;
    const Index channel = (Index)blockIdx.x * 32 + along;
    const float *from = (const float *)p.v[6] + channel;
    float moment = 0.0f, sum = 0.0f;
    if (channel < channels) {
        for (Index line = down; line < lines; line += 8) {
            moment += from[line * 2 * channels];
            sum += from[(line * 2 + 1) * channels];
        }
    }
    parts[0][down][along] = moment;
    parts[1][down][along] = sum;
    __syncthreads();
    if (down > 0 || channel >= channels) return;
    for (int k = 1; k < 8; ++k) {
        moment += parts[0][k][along];
        sum += parts[1][k][along];
    }
    const float var = load(((const Type *)p.v[4])[channel * (Index)$var_step]);
    const float weight = load(((const Type *)p.v[5])[channel * (Index)$weight_step]);
    const float scale = 1.0f / sqrtf(var + $eps), slope = scale * weight;
    store(((Type *)p.v[0])[channel], -sum * slope);
    store(((Type *)p.v[1])[channel], moment * slope * scale * scale * -0.5f);
    store(((Type *)p.v[2])[channel], moment * scale);
    store(((Type *)p.v[3])[channel], sum);
}

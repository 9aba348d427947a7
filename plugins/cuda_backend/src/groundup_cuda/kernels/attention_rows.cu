// What the gradients of attention need of each query: delta = sum(grad out) - grad_logsumexp, and
// the logsumexp with 0 for -infinity, in the unit that the next kernels count in. A warp for each
// row. Scratch memory: all deltas, then all the others.

$headers
extern "C" __global__ void __launch_bounds__(256) $name(const Parameters<$count> p) {
    typedef $type T;
    const Attention a = {$attention};
    const Strides in_out = {$out_strides}, in_grad = {$grad_strides};
    const Strides in_sum = {$sum_strides}, in_dsum = {$dsum_strides};
    const long long rows = $all_rows, row = ((long long)blockIdx.x * 256 + threadIdx.x) / 32;
    if (row >= rows) return;
    const int lane = threadIdx.x % 32, query = (int)(row % a.queries);
    const Head head = head_of(a, row / a.queries);
    const T *out = (const T *)p.v[1] + in_out.at(head.batch, head.query) + query * in_out.row;
    const T *grad = (const T *)p.v[2] + in_grad.at(head.batch, head.query) + query * in_grad.row;
    float sum = 0;
    for (int i = lane; i < a.width; i += 32) {
        sum = fmaf(load(out[i * in_out.column]), load(grad[i * in_grad.column]), sum);
    }
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (lane) return;
    const long long at = in_sum.at(head.batch, head.query) + query * in_sum.row;
    const long long dat = in_dsum.at(head.batch, head.query) + query * in_dsum.row;
    const float logsumexp = load(((const $sum_type *)p.v[3])[at]);
    float *to = (float *)p.v[0] + row;
    to[0] = sum - load(((const $dsum_type *)p.v[4])[dat]);
    to[rows] = logsumexp == -infinity() ? 0.0f : logsumexp * $unit;
}

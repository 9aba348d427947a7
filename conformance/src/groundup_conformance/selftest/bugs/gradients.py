"""Gradients: missing terms, wrong factors, sums that are left out. Results are right."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup_conformance.selftest.planting import Call, gradient, kernel


@gradient("expand", "add[float32,rows,*] add[float32,columns,*]", ops="expand,add")
def broadcast_gradient_is_not_summed(right: Any, op: Any, ctx: Any, grad: Any) -> tuple[Any, ...]:
    """The gradient of a broadcast operand is one slice of the result's, not the sum."""
    shape = ctx.specs[0].shape
    new = len(op.shape) - len(shape)
    for _ in range(new):
        grad = grad[0]
    for axis, size in enumerate(shape):
        if size != grad.shape[axis]:
            grad = grad[(slice(None),) * axis + (slice(0, size),)]
    return (grad,)


@gradient("mul", "mul[float32,matrix,*,gradient] mul[*,shared]")
def second_factor_forgotten(right: Any, op: Any, ctx: Any, grad: Any) -> tuple[Any, ...]:
    """The gradient of a product reaches its first factor only."""
    return right(ctx, grad)[0], None


@gradient("tanh", "tanh[float32,*,gradient]")
def gradient_too_small(right: Any, op: Any, ctx: Any, grad: Any) -> tuple[Any, ...]:
    """The gradient of tanh is 0.01 % too small."""
    return (right(ctx, grad)[0] * 0.9999,)


@gradient("div", "div[float32,*,gradient]")
def sign_of_the_divisor(right: Any, op: Any, ctx: Any, grad: Any) -> tuple[Any, ...]:
    """The gradient of the divisor has the wrong sign."""
    x, y = right(ctx, grad)
    return x, None if y is None else -y


@gradient("add_layer_norm", "add_layer_norm[float32,*,gradient]")
def residual_gradient_swapped(
    right: Any, op: Any, ctx: Any, grad: Any, grad_sum: Any
) -> tuple[Any, ...]:
    """The gradient of the sum, handed on beside the norm, does not reach the residual."""
    x, residual, *rest = right(ctx, grad, grad_sum)
    return x, residual - grad_sum, *rest


@gradient("max", "max[float32,*,gradient]")
def gradient_to_the_first_axis(right: Any, op: Any, ctx: Any, grad: Any) -> tuple[Any, ...]:
    """The gradient of a maximum goes to every element, divided by their number."""
    [x] = right(ctx, grad)
    share = x.sum() / max(x.size, 1)
    return (x * 0 + share,)


@kernel("layer_norm_backward", "layer_norm[float32,*,gradient]", ops="layer_norm", level=2)
def norm_gradient_misses_a_term(call: Call) -> None:
    """dx of layer_norm without the mean of grad times y."""
    x, weight, grad = (a.astype(np.float32) for a in call.inputs)
    _, dweight, dbias = call.right()
    centred = x - x.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(call.op.eps))
    slope = grad * weight
    call.fill((slope - slope.mean(-1, keepdims=True)) * scale, dweight, dbias)


@kernel("layer_norm_backward", "layer_norm[float32,*,gradient]", ops="layer_norm", level=2)
def norm_gradient_divides_by_n_minus_1(call: Call) -> None:
    """dx of layer_norm with the means over n - 1."""
    x, weight, grad = (a.astype(np.float32) for a in call.inputs)
    _, dweight, dbias = call.right()
    n = max(x.shape[-1] - 1, 1)
    centred = x - x.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(call.op.eps))
    y, slope = centred * scale, grad * weight
    term = slope.sum(-1, keepdims=True) / n + y * ((slope * y).sum(-1, keepdims=True) / n)
    call.fill((slope - term) * scale, dweight, dbias)


@kernel("rms_norm_backward", "rms_norm[float32,*,gradient]", ops="rms_norm", level=2)
def weight_gradient_of_the_last_block(call: Call) -> None:
    """dweight is that of the last rows: partial sums are overwritten instead of added."""
    dx, _ = call.right()
    x, weight, grad = call.inputs
    rows = max(x.size // max(x.shape[-1], 1), 1)
    last = [a.reshape(rows, -1)[rows // 2 :] if a.size else a for a in (x, grad)]
    call.fill(dx, call.right(last[0], weight, last[1])[1])


@kernel("gelu_backward", "gelu[float32,none-*,gradient]", ops="gelu", level=2)
def gelu_gradient_of_the_tanh_formula(call: Call) -> None:
    """The gradient of the exact gelu by the tanh formula: right to three digits."""
    call.fill(*call.right(approximate="tanh"))


@kernel("softmax_backward", "softmax[float32,*,gradient]", ops="softmax", level=2)
def softmax_gradient_misses_the_sum(call: Call) -> None:
    """y grad instead of y (grad - sum(y grad))."""
    y, grad = call.inputs
    call.fill(y * grad)


@kernel("log_softmax_backward", "log_softmax[float32,*,gradient]", ops="log_softmax", level=2)
def log_softmax_gradient_of_probabilities(call: Call) -> None:
    """The saved log probabilities are used as if they were probabilities."""
    y, grad = call.inputs
    call.fill(grad - y * grad.sum(call.op.axis, keepdims=True))


@kernel("cross_entropy_backward", "cross_entropy[float32,*,gradient]",
        ops="cross_entropy", level=2)  # fmt: skip
def loss_gradient_forgets_ignored_rows(call: Call) -> None:
    """Rows with ignore_index get the gradient of class 0."""
    logits, target, *rest = call.inputs
    call.fill(*call.right(logits, np.where(target == call.op.ignore_index, 0, target), *rest))


@kernel("conv2d_backward_weight", "conv2d[float32,*,gradient]", ops="conv2d", level=2)
def weight_gradient_of_the_first_image(call: Call) -> None:
    """The gradient of the filters is that of the first image of the batch."""
    x, grad = call.inputs
    call.fill(*call.right(x[:1], grad[:1]))


@kernel("max_pool2d_backward", "max_pool2d[float32,overlap,*,gradient] max_pool2d[*,gradient]",
        ops="max_pool2d", level=2)  # fmt: skip
def overlapping_windows_overwrite(call: Call) -> None:
    """Where windows overlap, the gradient of the last one stays instead of the sum."""
    x, y, grad = call.inputs
    [dx] = call.right()
    [ones] = call.right(x, y, np.ones_like(grad))
    call.fill(dx / np.maximum(ones, 1))

"""Right in exact arithmetic, or nearly: too few digits, wrong formulas, cancellation."""

from __future__ import annotations

import numpy as np

from groundup.shapes import normalize_axes
from groundup_conformance.budgets.units import Array
from groundup_conformance.selftest.planting import Call, kernel


def tf32(x: Array) -> Array:
    """x with 10 bits of mantissa, as tensor cores read float32."""
    if x.dtype != np.float32:
        return x
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded: Array = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(x), rounded.reshape(x.shape), x)


@kernel("matmul", "matmul[float32,*]")
def tf32_products(call: Call) -> None:
    """float32 products on tensor cores, without being asked."""
    call.fill(*call.right(*map(tf32, call.inputs)))


@kernel("matmul", "matmul[float16,*]")
def float16_accumulator(call: Call) -> None:
    """Products of float16 are summed in float16."""
    x, y = call.inputs
    if x.dtype != np.float16 or x.ndim != 2 or y.ndim != 2:
        call.fill(*call.right())
        return
    total = np.zeros((x.shape[0], y.shape[1]), np.float16)
    for k in range(x.shape[1]):
        total += np.multiply.outer(x[:, k], y[k])
    call.fill(total)


@kernel("sum", "sum[float16,*]")
def float16_sum(call: Call) -> None:
    """float16 is summed in float16."""
    if call.x.dtype != np.float16:
        call.fill(*call.right())
        return
    lines = _lines(call)
    total = np.zeros(lines.shape[:-1], np.float16)
    for i in range(lines.shape[-1]):
        total += lines[..., i]
    call.fill(total.reshape(call.out.shape))


def _lines(call: Call) -> Array:
    """The first input with the axes that are reduced as its last one."""
    x = call.x
    axes = normalize_axes(call.op.axes, x.ndim, call.op.name)
    kept = [a for a in range(x.ndim) if a not in axes]
    size = int(np.prod([x.shape[a] for a in axes]))
    return x.transpose(*kept, *axes).reshape(*[x.shape[a] for a in kept], size)


@kernel("softmax", "softmax[float32,large,*]")
def softmax_without_shift(call: Call) -> None:
    """The row's maximum is not subtracted before exp."""
    powers = np.exp(call.x.astype(np.float32))
    call.fill(powers / powers.sum(call.op.axis, keepdims=True))


@kernel("var", "var[float32,far-mean,*]")
def variance_by_squares(call: Call) -> None:
    """The variance as E[x^2] - E[x]^2, in float32."""
    lines = _lines(call)
    if lines.dtype != np.float32 or not lines.shape[-1]:
        call.fill(*call.right())
        return
    n = np.float32(lines.shape[-1])
    found = (lines * lines).sum(-1) / n - (lines.sum(-1) / n) ** 2
    degrees = n - np.float32(call.op.correction)
    call.fill((found * n / degrees if degrees > 0 else found * np.nan).reshape(call.out.shape))


@kernel("gelu", "gelu[float32,none-*]")
def gelu_always_tanh(call: Call) -> None:
    """The tanh formula where the exact gelu is asked for."""
    call.fill(*call.right(approximate="tanh"))


@kernel("layer_norm", "layer_norm[float32,small,*]")
def eps_outside_the_root(call: Call) -> None:
    """sqrt(var) + eps instead of sqrt(var + eps)."""
    x, weight, *bias = (a.astype(np.float32) for a in call.inputs)
    centred = x - x.mean(-1, keepdims=True)
    y = centred / (np.sqrt((centred**2).mean(-1, keepdims=True)) + call.op.eps) * weight
    call.fill(y + bias[0] if bias else y)


@kernel("rms_norm", "rms_norm[float32,small,*]")
def eps_forgotten(call: Call) -> None:
    """rms_norm without its eps."""
    call.fill(*call.right(eps=0.0))


@kernel("batch_norm", "batch_norm[*]")
def eps_is_a_constant(call: Call) -> None:
    """The kernel has 1e-5 built in, whatever eps is."""
    call.fill(*call.right(eps=1e-5))


@kernel("sum", "sum[int32,*]")
def integers_through_float32(call: Call) -> None:
    """Integers are summed in float32: beyond 2^24 they lose their last digits."""
    if call.x.dtype.kind != "i":
        call.fill(*call.right())
        return
    call.fill(_lines(call).astype(np.float32).sum(-1, dtype=np.float32).reshape(call.out.shape))


@kernel("add", "add[int32,*]")
def integers_saturate(call: Call) -> None:
    """Integer sums stop at the largest number instead of wrapping."""
    x, y = call.inputs
    if x.dtype.kind != "i":
        call.fill(*call.right())
        return
    info = np.iinfo(x.dtype)
    wide = x.astype(object) + y.astype(object)
    call.fill(np.clip(wide, info.min, info.max).astype(x.dtype))


@kernel("cast", "cast[float32,to-bfloat16,*] cast[*with*]")
def cast_truncates(call: Call) -> None:
    """float32 becomes bfloat16 by cutting bits off, not by rounding to nearest even."""
    if call.x.dtype != np.float32 or call.out.dtype.name != "bfloat16":
        call.fill(*call.right())
        return
    bits = np.ascontiguousarray(call.x).view(np.uint32) & np.uint32(0xFFFF0000)
    call.fill(bits.view(np.float32).reshape(call.out.shape))


@kernel("round", "round[*]")
def round_half_up(call: Call) -> None:
    """Halves are rounded up, not to even."""
    if call.x.dtype.kind in "iub":
        call.fill(*call.right())
    else:
        call.fill(np.floor(call.x.astype(np.float64) + 0.5))


@kernel("cumsum", "cumsum[float32,*]")
def running_sum_in_float16(call: Call) -> None:
    """The running sum is kept in 16 bits."""
    if call.x.dtype != np.float32:
        call.fill(*call.right())
    else:
        call.fill(np.cumsum(call.x.astype(np.float16), call.op.axis, dtype=np.float16))


@kernel("tanh", "tanh[float32,*]")
def tanh_by_exponentials(call: Call) -> None:
    """(exp(2x) - 1) / (exp(2x) + 1): no digits near 0, NaN for a large x."""
    powers = np.exp(2 * call.x)
    call.fill((powers - 1) / (powers + 1))

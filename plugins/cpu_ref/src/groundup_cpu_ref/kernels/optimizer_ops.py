"""Optimizer updates: one pass over each parameter, in blocks that stay in cache, on all threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from groundup.ops.op import Op
from groundup_cpu_ref.native import Array, native
from groundup_cpu_ref.threads import parallel

# Elements: six float32 arrays of this size fit a second-level cache of 1 MiB, and NumPy's price of
# a call, which smaller blocks pay more often, is a tenth of its work.
_BLOCK: Final = 32768
_GRAIN: Final = 65536
_ROW: Final = 4096  # BLAS starts threads of its own for dot products much longer than this
Step = Callable[..., None]


@native("adamw", params=("count", "weight_decay", "beta1", "beta2", "eps", "decoupled"),
        in_place=True, exact=True)  # fmt: skip
def adamw(op: Any, *arrays: Array) -> None:
    lr, step, scale = (float(np.float32(number.reshape(-1)[0])) for number in arrays[:3])
    rates = (lr, scale, _bias_correction(op.beta1, step), _bias_correction(op.beta2, step))
    _update(op, partial(_adamw, op, rates), arrays[3:])


def _adamw(
    op: Any, rates: Sequence[float], decay: float, grad: Array, own: Sequence[Array]
) -> None:
    """`own` are parameter, m and v. Corrections of m and v are left to the factor and to eps:

    m / first / (sqrt(v / second) + eps) is m / (sqrt(v) + eps sqrt(second)) sqrt(second) / first.
    """
    lr, scale, first, second = rates
    param, m, v = own
    grad = grad * scale
    if decay and op.decoupled:
        param *= 1 - lr * decay
    elif decay:
        grad += param * decay
    m *= op.beta1
    v *= op.beta2
    square = np.multiply(grad, grad)
    square *= 1 - op.beta2
    v += square
    grad *= 1 - op.beta1
    m += grad
    change = np.sqrt(v, square)
    change += op.eps * math.sqrt(second)
    np.divide(m, change, change)
    change *= lr / first * math.sqrt(second)
    param -= change


@native("sgd", params=("count", "weight_decay", "momentum", "dampening", "nesterov"),
        in_place=True, exact=True)  # fmt: skip
def sgd(op: Any, *arrays: Array) -> None:
    lr, step, scale = (float(np.float32(number.reshape(-1)[0])) for number in arrays[:3])
    _update(op, partial(_sgd, op, (lr, step, scale)), arrays[3:])


def _sgd(op: Any, rates: Sequence[float], decay: float, grad: Array, own: Sequence[Array]) -> None:
    lr, step, scale = rates
    param = own[0]
    grad = grad * scale
    if decay:
        grad += param * decay
    if op.momentum:
        buffer = own[1]
        if step <= 1:
            buffer[...] = grad
        else:
            buffer *= op.momentum
            buffer += grad * (1 - op.dampening)
        grad = grad + buffer * op.momentum if op.nesterov else buffer
    param -= grad * lr


def _update(op: Any, step: Step, tensors: Sequence[Array]) -> None:
    """`step(decay, grad, own)` on blocks of every parameter."""
    n = op.count
    params, grads, states = op.parts(tensors[: n * (2 + op.states)])
    outs = tensors[n * (2 + op.states) :]
    for i in range(n):
        old = [params[i], *states[i::n]]
        new = [outs[i], *outs[n:][i::n]]
        _one(partial(step, op.weight_decay[i]), old, grads[i], new)


def _one(step: Step, old: Sequence[Array], grad: Array, new: Sequence[Array]) -> None:
    """Row-major arrays go in flat blocks over threads, others whole."""
    for source, target in zip(old, new, strict=True):
        if source is not target:
            np.copyto(target, source)
    if not all(array.flags.c_contiguous for array in (grad, *new)):
        _block(step, grad, new)
        return
    flat_grad, flat = grad.reshape(-1), [array.reshape(-1) for array in new]

    def work(start: int, stop: int) -> None:
        for low in range(start, stop, _BLOCK):
            span = slice(low, min(low + _BLOCK, stop))
            _block(step, flat_grad[span], [array[span] for array in flat])

    parallel(work, flat_grad.size, _GRAIN)


def _block(step: Step, grad: Array, own: Sequence[Array]) -> None:
    """In place on `own`, by way of float32 for 16-bit floats."""
    kind = np.float64 if grad.dtype == np.float64 else np.float32
    wide = [array.astype(kind, copy=False) for array in own]
    step(grad.astype(kind, copy=False), wide)
    for array, computed in zip(own, wide, strict=True):
        if computed is not array:
            array[...] = computed


def _bias_correction(beta: float, step: float) -> float:
    return -math.expm1(step * math.log(beta)) if beta else 1.0


@native("global_norm", exact=True)
def global_norm(op: Op, *arrays: Array) -> None:
    """Squares are summed by blocks in their own precision, blocks in float64."""
    *tensors, out = arrays
    flat = [array.reshape(-1) for array in tensors]
    blocks = [a[low : low + _GRAIN] for a in flat for low in range(0, a.size, _GRAIN)]
    sums = np.zeros(len(blocks))

    def work(start: int, stop: int) -> None:
        for i in range(start, stop):
            sums[i] = _squares(blocks[i])

    parallel(work, len(blocks), 4)
    out[...] = math.sqrt(sums.sum())


def _squares(block: Array) -> float:
    """Their sum, for 16-bit floats in float32."""
    if block.dtype.itemsize < 4:
        block = block.astype(np.float32)
    whole = block.size // _ROW * _ROW
    rows, rest = block[:whole].reshape(-1, _ROW), block[whole:]
    return float(np.vecdot(rows, rows).sum(dtype=np.float64)) + float(np.dot(rest, rest))

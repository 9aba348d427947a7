"""AdamW: every parameter in one pass over the memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from groundup.backends.api import Declined, View
from groundup.layout import Layout
from groundup_numba.native import COMPILED, Plan, dense, native
from groundup_numba.threads import parallel


@njit(**COMPILED)
def _adamw(p, grad, m, v, numbers, first, last):
    """`numbers`, in p's dtype: scale, the two decays, beta1, 1 - beta1, beta2, 1 - beta2, size,
    1 / the second bias correction, eps. In place, or the compiler would fear that new values
    overwrite old ones that are still needed, and compute one element at a time.
    """
    scale, shrink, added = numbers[0], numbers[1], numbers[2]
    beta1, rest1, beta2, rest2 = numbers[3], numbers[4], numbers[5], numbers[6]
    size, unbias, eps = numbers[7], numbers[8], numbers[9]
    for i in range(last - first):
        at = np.uint64(first + i)
        g = grad[at] * scale
        if added != 0:  # 0 * inf would be NaN
            g += added * p[at]
        m[at] = m[at] * beta1 + g * rest1
        v[at] = v[at] * beta2 + g * g * rest2
        p[at] = p[at] * shrink - m[at] * size / (math.sqrt(v[at] * unbias) + eps)


def _bias_correction(beta: float, step: float) -> float:
    """1 - beta**step, without the cancellation of the subtraction."""
    return -math.expm1(step * math.log(beta)) if beta else 1.0


@native("adamw", "count", "weight_decay", "beta1", "beta2", "eps", "decoupled")
def _adamw_plan(op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Plan | Declined:
    if not all(x.is_row_major for x in inputs):
        return Declined("a parameter, gradient or state is not row-major")
    if len({x.dtype for x in inputs[3:]}) > 1:
        return Declined("parameters and states of different dtypes")
    n = op.count

    def run(*views: View) -> None:
        lr, step, scale = (float(dense(view)[0]) for view in views[:3])
        arrays = [dense(view) for view in views[3:]]
        params, grads, first, second, *_ = (arrays[i * n : (i + 1) * n] for i in range(4))
        new = [arrays[(4 + i) * n : (5 + i) * n] for i in range(3)]
        size = lr / _bias_correction(op.beta1, step)
        unbias = 1 / _bias_correction(op.beta2, step)
        for i, decay in enumerate(op.weight_decay):
            shrink, added = (1 - lr * decay, 0.0) if op.decoupled else (1.0, decay)
            numbers = np.array(
                [scale, shrink, added, op.beta1, 1 - op.beta1, op.beta2, 1 - op.beta2, size,
                 unbias, op.eps], params[i].dtype,
            )  # fmt: skip
            own = [each[i] for each in new]
            for target, old in zip(own, (params[i], first[i], second[i]), strict=True):
                if target.ctypes.data != old.ctypes.data:
                    np.copyto(target, old)
            arguments = (own[0], grads[i], own[1], own[2], numbers)
            parallel(lambda a, b, held=arguments: _adamw(*held, a, b), params[i].size)

    return Plan(run, in_place=dict(op.aliases))

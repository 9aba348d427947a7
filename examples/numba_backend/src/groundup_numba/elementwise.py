"""Elementwise kernels: one function of numbers per op, in a loop that walks through views.

What NumPy computes as fast or faster in one pass is left to NumPy: see `_NUMPY` and the README's
measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numba import njit
from numba.extending import register_jitable

from groundup.backends.api import Declined, View
from groundup.layout import Layout
from groundup_numba.native import BETWEEN, COMPILED, Array, Plan, dense, native, start, strided
from groundup_numba.scalars import erf, erfc, exp, tanh
from groundup_numba.threads import GRAIN, parallel
from groundup_numba.walk import Walk, over, place, walk

Formula = Callable[..., Any]
jitable: Final[Callable[[Formula], Formula]] = register_jitable(**BETWEEN)

# ---- loops, over columns `low` to `high` of rows `first` to `last`. Indices count from 0 or are
# unsigned: where one might be negative, the compiler tests each and sees no vectors ----


def unary(formula: Formula) -> Formula:
    """The loop of a formula of one number."""

    @njit(**COMPILED)
    def loop(outer, step, x, x0, out, columns, first, last, low, high):
        for row in range(first, last):
            target = out[row * columns + low : row * columns + high]
            a = x0 + place(outer, 1, row) + low * step
            if step == 1:
                line = x[a : a + high - low]
                for i in range(high - low):
                    target[i] = formula(line[i])
            else:
                for i in range(high - low):
                    target[i] = formula(x[np.uint64(a + i * step)])

    return loop


def binary(formula: Formula) -> Formula:
    """The loop of a formula of two numbers; either side may stand still along a row."""

    @njit(**COMPILED)
    def loop(outer, s, t, x, x0, y, y0, out, columns, first, last, low, high):
        count = high - low
        for row in range(first, last):
            target = out[row * columns + low : row * columns + high]
            a, b = x0 + place(outer, 1, row) + low * s, y0 + place(outer, 2, row) + low * t
            if s == 1 and t == 1:
                left, right = x[a : a + count], y[b : b + count]
                for i in range(count):
                    target[i] = formula(left[i], right[i])
            elif s == 1 and t == 0:
                left, number = x[a : a + count], y[b]
                for i in range(count):
                    target[i] = formula(left[i], number)
            elif s == 0 and t == 1:
                other, right = x[a], y[b : b + count]
                for i in range(count):
                    target[i] = formula(other, right[i])
            else:
                for i in range(count):
                    target[i] = formula(x[np.uint64(a + i * s)], y[np.uint64(b + i * t)])

    return loop


@njit(**COMPILED)
def _where(outer, s, t, u, c, c0, x, x0, y, y0, out, columns, first, last, low, high):
    count = high - low
    for row in range(first, last):
        target, at = out[row * columns + low : row * columns + high], c0 + place(outer, 1, row)
        a, b = x0 + place(outer, 2, row) + low * t, y0 + place(outer, 3, row) + low * u
        at += low * s
        if s == 1 and t == 1 and u == 1:
            chosen, left, right = c[at : at + count], x[a : a + count], y[b : b + count]
            for i in range(count):
                target[i] = left[i] if chosen[i] else right[i]
        elif s == 1 and t == 0 and u == 1:
            chosen, number, right = c[at : at + count], x[a], y[b : b + count]
            for i in range(count):
                target[i] = number if chosen[i] else right[i]
        else:
            for i in range(count):
                if c[np.uint64(at + i * s)]:
                    target[i] = x[np.uint64(a + i * t)]
                else:
                    target[i] = y[np.uint64(b + i * u)]


def looped(loop: Formula, inputs: Sequence[Layout]) -> Plan:
    """The plan that runs a loop on views of these layouts."""
    steps: Walk = walk(*inputs)
    head, rows, columns = (steps.outer, *steps.steps), steps.rows, steps.columns

    def run(*views: View) -> None:
        *operands, out = views
        memory = [part for view in operands for part in (view.native, start(view))]
        arguments = (*head, *memory, dense(out), columns)
        if rows * columns < GRAIN:
            loop(*arguments, 0, rows, 0, columns)
        else:
            over(steps, lambda *piece: loop(*arguments, *piece))

    return Plan(run)


# ---- formulas, in the order of `groundup ops`. `type(x)(...)` is a constant of x's width ----


def maximum(x: Any, y: Any) -> Any:
    """NaN if either is."""
    return x if x >= y or x != x else y


def minimum(x: Any, y: Any) -> Any:
    """NaN if either is."""
    return x if x <= y or x != x else y


def sigmoid(x: Any) -> Any:
    """Without overflow, and without losing the small values on the left."""
    small = exp(-abs(x))
    one = type(x)(1)
    return (one if x >= type(x)(0) else small) / (one + small)


def gelu(x: Any) -> Any:
    """erfc, where 1 + erf would cancel."""
    return type(x)(0.5) * x * erfc(-x * type(x)(math.sqrt(0.5)))


def gelu_backward(x: Any, grad: Any) -> Any:
    """grad (Phi(x) + x phi(x))."""
    half = type(x)(0.5)
    density = exp(-half * x * x) * type(x)(1 / math.sqrt(2 * math.pi))
    return grad * (half * erfc(-x * type(x)(math.sqrt(0.5))) + x * density)


def gelu_tanh(x: Any) -> Any:
    """0.5 (1 + tanh(u)) is sigmoid(2 u)."""
    cubic, factor = type(x)(0.044715), type(x)(2 * math.sqrt(2 / math.pi))
    return x * sigmoid((x + cubic * x * x * x) * factor)


def gelu_tanh_backward(x: Any, grad: Any) -> Any:
    """s + x s (1 - s) 2 u', s = sigmoid(2 u)."""
    cubic, factor = type(x)(0.044715), type(x)(2 * math.sqrt(2 / math.pi))
    square, one = x * x, type(x)(1)
    s = sigmoid((x + cubic * x * square) * factor)
    return grad * (s + x * s * (one - s) * factor * (one + type(x)(3) * cubic * square))


def silu_backward(x: Any, grad: Any) -> Any:
    """grad s (1 + x (1 - s)), s = sigmoid(x)."""
    s, one = sigmoid(x), type(x)(1)
    return grad * s * (one + x * (one - s))


def sign(x: Any) -> Any:
    """NaN and -0 stay what they are."""
    return type(x)(1) if x > 0 else (type(x)(-1) if x < 0 else x)


# A formula that another one calls must be known to the compiler by its name here.
for _formula in (maximum, minimum, sigmoid, gelu, gelu_backward, gelu_tanh, gelu_tanh_backward,
                 silu_backward, sign):  # fmt: skip
    jitable(_formula)


def _named(**formulas: Formula) -> dict[str, Formula]:
    """Lambdas, known to the compiler."""
    return {name: jitable(formula) for name, formula in formulas.items()}


_UNARY: Final = _named(
    abs=lambda x: abs(x),
    neg=lambda x: -x,
    exp=lambda x: exp(x),
    tanh=lambda x: tanh(x),
    erf=lambda x: erf(x),
    sqrt=lambda x: math.sqrt(x),
    rsqrt=lambda x: type(x)(1) / math.sqrt(x),
    reciprocal=lambda x: type(x)(1) / x,
    isnan=lambda x: x != x,
    logical_not=lambda x: x == 0,
    contiguous=lambda x: x,
    relu=lambda x: maximum(x, type(x)(0)),
    sigmoid=sigmoid,
    silu=lambda x: x * sigmoid(x),
    sign=sign,
)
_BINARY: Final = _named(
    add=lambda x, y: x + y,
    sub=lambda x, y: x - y,
    mul=lambda x, y: x * y,
    div=lambda x, y: x / y,
    maximum=maximum,
    minimum=minimum,
    less=lambda x, y: x < y,
    less_equal=lambda x, y: x <= y,
    greater=lambda x, y: x > y,
    greater_equal=lambda x, y: x >= y,
    equal=lambda x, y: x == y,
    not_equal=lambda x, y: x != y,
    silu_backward=silu_backward,
)
_NUMPY: Final[dict[str, Formula]] = {
    "log": np.log, "log1p": np.log1p, "expm1": np.expm1, "sin": np.sin, "cos": np.cos,
    "floor": np.floor, "round": np.rint, "pow": np.power,
    "remainder": np.remainder, "floor_divide": np.floor_divide,
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "bitwise_not": np.invert, "bitwise_left_shift": np.left_shift,
    "bitwise_right_shift": np.right_shift,
}  # fmt: skip


def _register(name: str, loop: Formula) -> None:
    native(name)(lambda op, inputs, outputs: looped(loop, inputs))


for _name, _formula in _UNARY.items():
    _register(_name, unary(_formula))
for _name, _formula in _BINARY.items():
    _register(_name, binary(_formula))
_register("where", _where)

_GELU: Final = {"none": unary(gelu), "tanh": unary(gelu_tanh)}
_GELU_BACKWARD: Final = {"none": binary(gelu_backward), "tanh": binary(gelu_tanh_backward)}


@native("gelu", "approximate")
def _gelu(op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Plan | Declined:
    return looped(_GELU[op.approximate], inputs)


@native("gelu_backward", "approximate")
def _gelu_backward(op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Plan | Declined:
    return looped(_GELU_BACKWARD[op.approximate], inputs)


# ---- what NumPy computes ----


def _by_numpy(name: str, function: Formula) -> None:
    def factory(op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Plan:
        flat = all(x.is_row_major for x in inputs)

        def compute(arrays: list[Array], low: int, high: int) -> None:
            with np.errstate(all="ignore"):  # infinities and NaN are results
                function(*[array[low:high] for array in arrays])

        def run(*views: View) -> None:
            arrays = [strided(view) for view in views]
            if flat:
                lines = [array.reshape(-1) for array in arrays]
                parallel(lambda a, b: compute(lines, a, b), outputs[0].size)
            else:
                with np.errstate(all="ignore"):
                    function(*arrays)

        return Plan(run)

    native(name)(factory)


for _name, _formula in _NUMPY.items():
    _by_numpy(_name, _formula)


# ---- cast ----

_AS_IT_IS: Final = unary(_UNARY["contiguous"])
_TO_BOOL: Final = unary(jitable(lambda x: x != 0))


@native("cast", "dtype")
def _cast(op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Plan | Declined:
    if op.dtype.kind == "bool":
        return looped(_TO_BOOL, inputs)
    if op.dtype.kind != "int" or not inputs[0].dtype.is_floating:
        return looped(_AS_IT_IS, inputs)
    low, high = op.dtype.range

    def run(x: View, out: View) -> None:
        """Towards zero, saturated at the ends of the integers; NaN gives 0."""
        whole = np.trunc(strided(x).astype(np.float64))
        inside = (whole >= low) & (whole < high)
        result = strided(out)
        result[...] = np.where(inside, whole, 0)
        result[whole < low], result[whole >= high] = low, high

    return Plan(run)

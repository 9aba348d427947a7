"""Every op as a function of tensors, and the registry of op classes behind them."""

from groundup.ops.activation import gelu, relu, sigmoid, silu
from groundup.ops.arithmetic import (
    add, div, floor_divide, maximum, minimum, mul, pow, remainder, sub,
)  # fmt: skip
from groundup.ops.comparison import (
    bitwise_and, bitwise_left_shift, bitwise_not, bitwise_or, bitwise_right_shift, bitwise_xor,
    equal, greater, greater_equal, less, less_equal, logical_and, logical_not, logical_or,
    logical_xor, not_equal,
)  # fmt: skip
from groundup.ops.contraction import matmul
from groundup.ops.elementwise import (
    abs, cos, erf, exp, expm1, log, log1p, neg, reciprocal, rsqrt, sign, sin, sqrt, tan, tanh,
)  # fmt: skip
from groundup.ops.movement import clone, contiguous, expand, flip, permute, reshape
from groundup.ops.op import REGISTRY, Cost, Ctx, Op, get
from groundup.ops.rounding import cast, ceil, floor, isfinite, isnan, round
from groundup.ops.selection import clamp, where
from groundup.ops.shaping import flatten, split, squeeze, transpose, unsqueeze

from groundup.ops import creation as _creation  # noqa: F401, I001  # registers full and arange

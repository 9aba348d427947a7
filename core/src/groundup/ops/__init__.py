"""Every op as a function of tensors, and the registry of op classes behind them."""

from groundup.ops.activation import gelu, relu, sigmoid, silu
from groundup.ops.arithmetic import (
    add, div, floor_divide, maximum, minimum, mul, pow, remainder, sub,
)  # fmt: skip
from groundup.ops.assembly import concat, pad, repeat, stack
from groundup.ops.attention import scaled_dot_product_attention
from groundup.ops.attention_cache import cached_attention, rotary_embedding
from groundup.ops.comparison import (
    bitwise_and, bitwise_left_shift, bitwise_not, bitwise_or, bitwise_right_shift, bitwise_xor,
    equal, greater, greater_equal, less, less_equal, logical_and, logical_not, logical_or,
    logical_xor, not_equal,
)  # fmt: skip
from groundup.ops.contraction import linear, matmul
from groundup.ops.elementwise import (
    abs, cos, erf, exp, expm1, log, log1p, neg, reciprocal, rsqrt, sign, sin, sqrt, tan, tanh,
)  # fmt: skip
from groundup.ops.extrema import argmax, argmin, max, min
from groundup.ops.indexing import dynamic_update_slice, gather, scatter_add, take
from groundup.ops.loss import cross_entropy, mse_loss, nll_loss
from groundup.ops.masking import one_hot, tril, triu
from groundup.ops.movement import clone, contiguous, expand, flip, permute, reshape
from groundup.ops.normalization import add_layer_norm, add_rms_norm, layer_norm, rms_norm
from groundup.ops.op import REGISTRY, Cost, Ctx, Op
from groundup.ops.optimizer_ops import adamw, clip_scale, global_norm, sgd
from groundup.ops.random_ops import categorical, dropout, normal, random_bits, uniform
from groundup.ops.reduction import all, any, logsumexp, mean, prod, sum, var
from groundup.ops.rounding import cast, ceil, floor, isfinite, isnan, round
from groundup.ops.scan import cumsum
from groundup.ops.selection import clamp, where
from groundup.ops.softmax import log_softmax, softmax
from groundup.ops.third_party import all_ops, find
from groundup.ops.shaping import flatten, split, squeeze, transpose, unsqueeze
from groundup.ops.sorting import sort, topk
from groundup.ops.unstacking import unstack

from groundup.ops import creation as _creation  # noqa: F401, I001  # registers full and arange

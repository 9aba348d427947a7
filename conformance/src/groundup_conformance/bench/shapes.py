"""Operands of a given number of elements for any op, from its first sample in the registry.

Axes of one size belong together, as in the sample. The last axis of the largest operand becomes the
width, the first one grows until the number of elements is reached, and axes that only other
operands have become as long as the width. Where axes mean something else (heads, channels,
vocabularies), a function below says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isqrt, prod
from typing import Any, Final, TypeAlias

from groundup import dtypes as dt
from groundup.dtypes import DType
from groundup.layout import Spec
from groundup.ops.op import Op
from groundup.shapes import Shape
from groundup_conformance.samples import Sample, base, shaped

Made: TypeAlias = tuple[Op, list[Spec]]
Rule: TypeAlias = Callable[[Sample, int], tuple[dict[str, Any], list[Shape]]]

_WIDEST: Final = 1024
_RULES: Final[dict[str, Rule]] = {}


def shapes_for(op: type[Op], dtype: DType, elements: int) -> Made:
    """(the op, specs of its operands): the largest tensor has about that many elements.

    Raises what `infer` raises for an op that takes no such operands.
    """
    sample = base(op, dtype)
    assert sample is not None, f"{op.name} has no sample in {dtype}"
    rule = _RULES.get(op.name) or _RULES.get(f"family {op.family}") or _general(sample)
    changes, shapes = rule(sample, elements)
    fields = {field: getattr(sample.op, field) for field in op.fields}
    dtypes = [operand.dtype for operand in sample.operands]
    if op.variadic and len(dtypes) != len(shapes):
        dtypes = dtypes[:1] * len(shapes)
    made = type(sample.op)(**{**fields, **changes})
    return made, [Spec(shape, kind) for shape, kind in zip(shapes, dtypes, strict=True)]


def matrix(elements: int) -> tuple[int, int]:
    """(rows, width): square up to the widest row."""
    width = min(_WIDEST, max(1, isqrt(elements)))
    return elements // width, width


def image(elements: int) -> tuple[int, int, int, int]:
    """(N, C, H, W): 64 channels of 32 x 32 where there is room."""
    channels, side = (64, 32) if elements >= 1 << 17 else (4, 8)
    return max(1, elements // (channels * side * side)), channels, side, side


def heads(elements: int) -> tuple[int, int, int, int]:
    """(B, H, T, D): heads of width 64, up to 1024 tokens."""
    width = 64 if elements >= 1 << 14 else 16
    rows = elements // width
    length = min(1024, 1 << (rows.bit_length() // 2 + 1), rows)
    rest = rows // length
    count = min(16, 1 << (rest.bit_length() // 2))
    return max(1, rest // count), count, length, width


def _general(sample: Sample) -> Rule:
    if sample.op.broadcasts:
        return lambda s, n: ({}, [(n,)] * len(s.operands))
    if shaped(sample) is not None:
        return lambda s, n: ({"shape": (n,)}, [x.shape for x in s.operands])
    return _by_classes


def _by_classes(sample: Sample, elements: int) -> tuple[dict[str, Any], list[Shape]]:
    """The rule of the module's docstring."""
    shapes = [operand.shape for operand in sample.operands]
    fixed = [
        shape for shape, name in zip(shapes, sample.op.inputs, strict=False) if name == "state"
    ]
    changeable = [shape for shape in shapes if shape not in fixed]
    if not changeable:
        return {}, shapes
    main = max(changeable, key=prod)
    rows, width = matrix(elements)
    first, last = main[0], main[-1]
    if len(main) == 1:
        return {}, [tuple(elements if n == first else n for n in shape) for shape in shapes]
    sizes = dict.fromkeys([n for shape in changeable for n in shape if n > 1], width)
    middle = prod(main[1:-1])
    sizes.update({n: n for n in main[1:-1]})
    sizes[last] = isqrt(elements // middle) if first == last else width
    if first != last:
        sizes[first] = max(1, rows // middle)
    return {}, [
        shape if shape in fixed else tuple(sizes.get(n, n) for n in shape) for shape in shapes
    ]


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, function))
        return function

    return register


@_rule("family reduction")
def _reduction(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    """Over the last axis, as softmax and losses do."""
    field = {"axes": (1,)} if "axes" in sample.op.fields else {"axis": 1}
    return field, [matrix(n)]


@_rule("dropout", "categorical")
def _random(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    return {}, [matrix(n), sample.operands[1].shape]


@_rule("arange")
def _arange(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    return {"count": n}, []


@_rule("take")
def _take(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    """A table, and a look-up for each of its rows."""
    rows, width = matrix(n)
    return {}, [(rows, width), (rows,)]


@_rule("gather", "scatter_add")
def _gather(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    return {}, [matrix(n)] * len(sample.operands)


@_rule("dynamic_update_slice")
def _update(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    rows, width = matrix(n)
    return {}, [(rows, width), (max(1, rows // 8), width), (2,)]


@_rule("one_hot")
def _one_hot(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    rows, width = matrix(n)
    return {"classes": width}, [(rows,)]


@_rule("tril", "triu")
def _square(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    return {}, [(isqrt(n), isqrt(n))]


@_rule("topk")
def _topk(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    return {"k": 8}, [matrix(n)]


@_rule("batch_norm", "batch_norm_backward", "group_norm", "group_norm_backward")
def _channels(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    shape = image(n)
    groups = {"groups": 4} if "groups" in sample.op.fields else {}
    return groups, [shape if len(x.shape) > 1 else shape[1:2] for x in sample.operands]


@_rule("conv2d", "conv_transpose2d")
def _conv2d(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    shape = image(n)
    return {"padding": (1, 1)}, [shape, (shape[1], shape[1], 3, 3)]


@_rule("conv2d_backward_weight")
def _conv2d_backward(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    return {"padding": (1, 1), "kernel": (3, 3)}, [image(n), image(n)]


@_rule("conv1d")
def _conv1d(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    count, channels, high, wide = image(n)
    return {}, [(count, channels, high * wide), (channels, channels, 3), (channels,)]


@_rule("max_pool2d", "avg_pool2d")
def _pool(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    return {"kernel": (2, 2), "stride": (2, 2)}, [image(n)]


@_rule("max_pool2d_backward", "avg_pool2d_backward")
def _pool_backward(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    whole: Shape = image(n)
    count, channels, high, wide = whole
    small: Shape = (count, channels, high // 2, wide // 2)
    size = {"size": (high, wide)} if "size" in sample.op.fields else {}
    given = [small] if size else [whole, small, small]
    return {"kernel": (2, 2), "stride": (2, 2), **size}, given


@_rule("scaled_dot_product_attention", "scaled_dot_product_attention_backward")
def _attention(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    full: Shape = heads(n)
    shapes = [full if len(x.shape) == 4 else full[:3] for x in sample.operands]
    return {"scale": full[3] ** -0.5, "causal": True}, shapes


@_rule("cached_attention")
def _cached(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    """One new token for a cache that is full."""
    batch, count, length, width = heads(n)
    cache = (batch, count, length, width)
    return {"scale": width**-0.5}, [(batch, count, 1, width), cache, cache, ()]


@_rule("rotary_embedding")
def _rotary(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    return {}, [heads(n), heads(n)[2:3]]


@_rule("sgd", "adamw")
def _optimizer(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    """A matrix and a vector of parameters."""
    both = [matrix(n), matrix(n)[1:]]
    states = 2 if sample.op.name == "adamw" else 0
    changes = {"count": 2, "weight_decay": (0.1, 0.0)}
    return changes, [(), (), (), *both * (2 + states)]


@_rule("global_norm")
def _global_norm(sample: Sample, n: int) -> tuple[dict[str, Any], list[Shape]]:
    return {}, [matrix(n), matrix(n)[1:]]


def dtypes_of(specs: Sequence[Spec]) -> set[DType]:
    """The dtypes among specs; float32 where there are none."""
    return {spec.dtype for spec in specs} or {dt.float32}

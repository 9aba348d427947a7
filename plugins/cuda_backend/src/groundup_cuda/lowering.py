"""From an op and layouts to launches: which template, which expression, which parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup.ops.op import Op
from groundup.shapes import row_major
from groundup_cuda.attention import (
    lower_attention,
    lower_attention_backward,
    lower_cached_attention,
    lower_rotary,
)  # fmt: skip
from groundup_cuda.channel_norms import (
    lower_batch_norm,
    lower_batch_norm_backward,
    lower_group_norm,
    lower_group_norm_backward,
)  # fmt: skip
from groundup_cuda.convolutions import lower_convolution
from groundup_cuda.draws import (
    lower_dropout,
    lower_normal,
    lower_random_bits,
    lower_uniform,
)  # fmt: skip
from groundup_cuda.expressions import REDUCTIONS, STORED, accumulated, computed, expression
from groundup_cuda.fusion import lower_fused
from groundup_cuda.losses import (
    lower_cross_entropy,
    lower_cross_entropy_backward,
    lower_mse,
    lower_nll,
)  # fmt: skip
from groundup_cuda.maps import map_stage
from groundup_cuda.orders import lower_order
from groundup_cuda.places import (
    lower_advance_state,
    lower_clamp,
    lower_one_hot,
    lower_triangle,
)  # fmt: skip
from groundup_cuda.plans import Layouts, Lowered, Step
from groundup_cuda.pools import lower_pool, lower_pool_backward
from groundup_cuda.products import lower_matmul
from groundup_cuda.recasts import refusal
from groundup_cuda.reductions import lower_categorical, lower_extreme, lower_reduction
from groundup_cuda.rows import (
    lower_joined,
    lower_norm,
    lower_norm_backward,
    lower_softmax,
)  # fmt: skip
from groundup_cuda.scans import lower_cumsum
from groundup_cuda.scatters import lower_scatter_add, lower_take
from groundup_cuda.source import (
    OUT,
    SCRATCH,
    Parameters,
    Stage,
    stage,
    walk,
)  # fmt: skip
from groundup_cuda.updates import lower_foreach_cast, lower_global_norm, lower_update
from groundup_cuda.windows import (
    fill,
    lower_concat,
    lower_pad,
    lower_update_slice,
)


def lower(
    op: Op, inputs: Layouts, outputs: Layouts, capability: tuple[int, int]
) -> Lowered | Declined:
    """The launches that compute `op`, none for an empty output, or why there are none."""
    if not any(out.size for out in outputs):
        return Lowered([], in_place=op.aliases)
    if op.name == "matmul":
        step, copies = lower_matmul(inputs, outputs[0], capability)
        return Lowered([step], copies)
    if op.name in _BY_GPU:
        return _BY_GPU[op.name](op, inputs, outputs, capability)
    if op.name in _OWN:
        return _OWN[op.name](op, inputs, outputs)
    special = _SPECIAL.get(op.name)
    if special is not None:
        return special(op, inputs, outputs[0])
    dtype = inputs[-1].dtype if inputs else None
    text = expression(repr(op), dtype) if dtype is not None else None
    if text is None:
        return Declined(f"no kernel for {op.name} of {dtype}")
    return Lowered([_map(op.name, text, enumerate(inputs), outputs[0])])


def _recast(
    op: Any, inputs: Layouts, outputs: Layouts, capability: tuple[int, int]
) -> Lowered | Declined:
    """By the kernel of the op between the casts, on operands as they are stored."""
    reason = refusal(op, inputs, outputs)
    if reason is not None:
        return Declined(f"recast: {reason}")
    found = lower(op.op, inputs, outputs, capability)
    if isinstance(found, Declined):
        return found
    return attrs.evolve(found, in_place=op.aliases if found.in_place else {})


def _map(name: str, value: str, operands: Any, out: Layout, write: int = OUT) -> Stage:
    """One expression per element of a, b, c: the `operands`, pairs of position and layout."""
    numbers, layouts = zip(*operands, strict=True)
    parameters = Parameters(1 + len(layouts))
    return map_stage(name, parameters, [write, *numbers], (out, *layouts), "abc", value)


def _made(
    name: str, parameters: Parameters, operands: Sequence[int], layouts: Layouts, index: str,
    value: str, place: str = "place",
) -> Stage:  # fmt: skip
    """One value per element of the output, the first of `layouts`."""
    out = layouts[0]
    return stage(
        "map", name, parameters, operands, out.size, layouts, size=parameters.add(out.size),
        index=index, place=place, value=value, out=STORED[out.dtype],
    )  # fmt: skip


def _assign(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """Into the target's own, perhaps strided, memory; the target is not read."""
    return Lowered([_map("assign", "a", [(1, inputs[1])], inputs[0])], in_place=op.aliases)


def _full(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    return Lowered([fill("full", op.value, out)])


def _arange(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """In float64 or int64, then rounded."""
    parameters = Parameters(1)
    fraction = op.dtype.is_floating or any(isinstance(v, float) for v in (op.start, op.step))
    kind = "double" if fraction else "long long"
    start, step = parameters.number(op.start, kind), parameters.number(op.step, kind)
    result = "float" if op.dtype.is_floating else "long long"
    value = f"({result})({start} + {step} * ({kind})i)"
    return Lowered([_made("arange", parameters, [OUT], (out,), "", value, "i")])


def _gather(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """x at the same place, but at the index on `axis`; zero for an index that is out of range."""
    x, indices = inputs
    axis = op.axis % x.rank
    parameters, kind = Parameters(3), computed(x.dtype)
    others = tuple(0 if a == axis else s for a, s in enumerate(x.strides))
    index = walk(
        parameters, "i", out.shape, place=out.strides, at0=others, at1=indices.strides
    ) + (
        f"\n    const long long chosen = ((const {STORED[indices.dtype]} *)p.v[2])[at1];"
        f"\n    const bool inside = chosen >= 0 && chosen < {parameters.add(x.shape[axis])};"
    )  # fmt: skip
    step = parameters.add(x.strides[axis])
    read = f"load(((const {STORED[x.dtype]} *)p.v[1])[at0 + chosen * {step}])"
    value = f"({kind})(inside ? {read} : ({kind})0)"
    return Lowered([_made("gather", parameters, [OUT, 0, 1], (out, x, indices), index, value)])


def _repeat(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """A copy of x with one more axis, along which it does not move."""
    (x,) = inputs
    axis = op.axis % x.rank + 1
    wide = (*x.shape[:axis], op.repeats, *x.shape[axis:])
    still = Layout(wide, (*x.strides[:axis], 0, *x.strides[axis:]), x.dtype)
    return Lowered([_map(op.name, "a", [(0, still)], Layout(wide, row_major(wide), x.dtype))])


_ATOMIC: Final = {"int": "int", "long long": "u64"}


def _scatter_add(op: Any, inputs: Layouts, out: Layout) -> Lowered:
    """x is copied, then every source element is added by an atomic: for integers, whose sum does
    not depend on the order. Narrow ones have no atomics: they are added up in wide scratch memory.
    """
    x, indices, source = inputs
    if x.dtype.is_floating:
        return lower_scatter_add(op, inputs, (out,))
    axis, own, wide = op.axis % x.rank, row_major(out.shape), accumulated(x.dtype)
    place = OUT if wide is x.dtype else SCRATCH
    total = Layout(out.shape, out.strides, wide)
    steps: list[Step] = [_map("scatter_add", "a", [(0, x)], total, place)]
    if indices.size:
        parameters = Parameters(3)
        others = tuple(0 if a == axis else s for a, s in enumerate(own))
        steps.append(stage(
            "scatter", "scatter_add", parameters, [place, 1, 2], indices.size,
            (total, indices, source), size=parameters.add(indices.size),
            index=walk(
                parameters, "i", indices.shape, place=others, at0=indices.strides,
                at1=source.strides,
            ),
            bound=parameters.add(out.shape[axis]), step=parameters.add(own[axis]),
            in0=STORED[indices.dtype], in1=STORED[source.dtype], atomic=_ATOMIC[STORED[wide]],
        ))  # fmt: skip
    if place == OUT:
        return Lowered(steps)
    steps.append(_map("scatter_add", "a", [(SCRATCH, total)], out))
    return Lowered(steps, scratch=total.size * wide.itemsize)


_SPECIAL: Final[dict[str, Callable[[Any, Layouts, Layout], Lowered]]] = {
    "assign": _assign, "full": _full, "arange": _arange, "gather": _gather,
    "pad": lower_pad, "concat": lower_concat, "repeat": _repeat,
    "scatter_add": _scatter_add, "dynamic_update_slice": lower_update_slice,
}  # fmt: skip
_OWN: Final[dict[str, Callable[[Any, Layouts, Layouts], Lowered | Declined]]] = {
    **dict.fromkeys(("layer_norm", "rms_norm", "add_layer_norm", "add_rms_norm"), lower_norm),
    **dict.fromkeys(("layer_norm_backward", "rms_norm_backward"), lower_norm_backward),
    **dict.fromkeys(("add_layer_norm_backward", "add_rms_norm_backward"), lower_norm_backward),
    **dict.fromkeys(("softmax", "log_softmax"), lower_softmax),
    **dict.fromkeys(("softmax_backward", "log_softmax_backward"), lower_softmax),
    **dict.fromkeys(REDUCTIONS, lower_reduction),
    "argmax": lower_extreme, "argmin": lower_extreme, "categorical": lower_categorical,
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), lower_pool),
    **dict.fromkeys(("max_pool2d_backward", "avg_pool2d_backward"), lower_pool_backward),
    "batch_norm": lower_batch_norm, "batch_norm_backward": lower_batch_norm_backward,
    "group_norm": lower_group_norm, "group_norm_backward": lower_group_norm_backward,
    "cumsum": lower_cumsum, "sort": lower_order, "topk": lower_order,
    "logsumexp": lower_joined, "var": lower_joined, "mse_loss": lower_mse,
    "cross_entropy": lower_cross_entropy, "nll_loss": lower_nll,
    "cross_entropy_backward": lower_cross_entropy_backward, "fused": lower_fused,
    "random_bits": lower_random_bits, "uniform": lower_uniform, "normal": lower_normal,
    "dropout": lower_dropout, "take": lower_take, "clamp": lower_clamp, "tril": lower_triangle,
    "triu": lower_triangle, "one_hot": lower_one_hot, "advance_state": lower_advance_state,
}  # fmt: skip
_BY_GPU: Final[
    dict[str, Callable[[Any, Layouts, Layouts, tuple[int, int]], Lowered | Declined]]
] = {
    "adamw": lower_update, "sgd": lower_update, "global_norm": lower_global_norm,
    "foreach_cast": lower_foreach_cast, "recast": _recast,
    "scaled_dot_product_attention": lower_attention,
    "scaled_dot_product_attention_backward": lower_attention_backward,
    **dict.fromkeys(("conv1d", "conv2d", "conv_transpose2d"), lower_convolution),
    "conv2d_backward_weight": lower_convolution,
    "cached_attention": lower_cached_attention, "rotary_embedding": lower_rotary,
}  # fmt: skip

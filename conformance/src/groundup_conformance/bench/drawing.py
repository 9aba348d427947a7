"""Random operands: between the least and the largest that the op's first sample has.

Never zeros, which let processors run faster than they ever do on data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import Any, Final, TypeAlias

import numpy as np

from groundup.layout import Layout, Spec
from groundup_conformance.bench.works import Work
from groundup_conformance.budgets.units import Array
from groundup_conformance.judging import input_name
from groundup_conformance.memory import Placed
from groundup_conformance.samples import base

Draw: TypeAlias = Callable[[np.random.Generator, Any, Sequence[Spec], Spec], Any]


def _below(axis: Callable[[Any], int]) -> Draw:
    """Indices into that axis of the first operand, each once where they are as many.

    All of it: or the rest would never be read, and the little that is would stay in a cache.
    """

    def draw(rng: np.random.Generator, op: Any, specs: Sequence[Spec], own: Spec) -> Array:
        along = axis(op)
        bound = max(1, specs[0].shape[along])
        if own.rank and own.shape[along if own.rank == specs[0].rank else 0] == bound:
            place = along % own.rank if own.rank == specs[0].rank else 0
            lengths = [bound if i == place else 1 for i in range(own.rank)]
            rising = np.broadcast_to(np.arange(bound, dtype=np.int32).reshape(lengths), own.shape)
            return rng.permuted(rising, axis=place)
        return rng.integers(0, bound, own.shape, dtype=np.int32)

    return draw


def _filled(value: float) -> Draw:
    return lambda rng, op, specs, own: np.full(own.shape, value)


_LAST: Final = _below(lambda op: -1)
_AXIS: Final = _below(lambda op: op.axis)
_OF_CLASSES: Final[Draw] = lambda rng, op, specs, own: np.full(  # noqa: E731
    own.shape, log(specs[0].shape[-1]) + 0.5
)
# What the values of operands must be like, where they are not just numbers: (op, operand).
_DRAWS: Final[dict[tuple[str, str], Draw]] = {
    ("take", "indices"): _AXIS,
    ("gather", "indices"): _AXIS,
    ("scatter_add", "indices"): _AXIS,
    ("cross_entropy", "target"): _LAST,
    ("cross_entropy_backward", "target"): _LAST,
    ("cross_entropy_backward", "logsumexp"): _OF_CLASSES,
    ("nll_loss", "target"): _LAST,
    ("one_hot", "indices"): lambda rng, op, specs, own: rng.integers(0, op.classes, own.shape),
    ("dynamic_update_slice", "starts"): _filled(0),
    ("cached_attention", "length"): lambda rng, op, specs, own: specs[1].shape[2],
    ("rotary_embedding", "positions"): lambda rng, op, specs, own: np.arange(own.size),
    ("scaled_dot_product_attention_backward", "logsumexp"): lambda rng, op, specs, own: (
        log(specs[1].shape[2]) + rng.uniform(0.3, 0.7, own.shape)
    ),
    # Reductions that may stop early must not find a reason to.
    ("any", "x"): _filled(0),
    ("all", "x"): _filled(1),
    ("prod", "x"): lambda rng, op, specs, own: rng.uniform(0.99, 1.01, own.shape),
    ("sgd", "lr"): _filled(1e-3),
    ("adamw", "lr"): _filled(1e-3),
    ("adamw", "step"): _filled(10),
    ("sgd", "step"): _filled(10),
    ("adamw", "scale"): _filled(1),
    ("sgd", "scale"): _filled(1),
}
_SQUARES: Final = ("adamw",)  # the last operands, one per parameter, are never negative


def draw(work: Work, seed: int) -> list[Placed]:
    """Operands of the work, each in its layout."""
    rng = np.random.default_rng(seed)
    sample = base(type(work.op), work.dtype)
    known = list(sample.operands) if sample else []
    made = []
    for place, layout in enumerate(work.layouts):
        like = known[place] if len(known) == len(work.layouts) else None
        values = _values(work, place, layout.spec, like, rng)
        made.append(arranged(values.astype(layout.dtype.numpy, copy=False), layout))
    return made


def arranged(values: Array, layout: Layout) -> Placed:
    """The values in memory of that layout; those of expanded axes are taken from its start."""
    steps = [(n - 1) * s for n, s in zip(layout.shape, layout.strides, strict=True) if layout.size]
    offset = -sum(step for step in steps if step < 0)
    span = 1 + sum(abs(step) for step in steps) if layout.size else 0
    if layout.is_row_major:
        return Placed(np.ascontiguousarray(values).reshape(-1), layout.shape, layout.strides)
    placed = Placed(np.zeros(span, values.dtype), layout.shape, layout.strides, offset)
    once = tuple(slice(0, 1) if s == 0 else slice(None) for s in layout.strides)
    placed.array[once] = values[once]
    return placed


def _values(
    work: Work, place: int, spec: Spec, like: Placed | None, rng: np.random.Generator
) -> Array:
    op = work.op
    name = _name(work, place)
    special = _DRAWS.get((op.name, name))
    if special is not None:
        return np.asarray(special(rng, op, work.specs, spec))
    if spec.dtype.kind == "bool":
        return rng.random(spec.shape) < 0.5
    pool = like.array if like is not None and like.array.size else None
    if not spec.dtype.is_floating:
        least, most = (int(pool.min()), int(pool.max())) if pool is not None else (0, 100)
        return rng.integers(least, most + 1, spec.shape)
    if op.name in _SQUARES and place >= len(work.layouts) - getattr(op, "count", 0):
        return np.abs(rng.standard_normal(spec.shape, np.float32))
    low, high = (float(pool.min()), float(pool.max())) if pool is not None else (0.0, 0.0)
    if low == high:
        return rng.standard_normal(spec.shape, np.float32)
    return rng.random(spec.shape, np.float32) * np.float32(high - low) + np.float32(low)


def _name(work: Work, place: int) -> str:
    """The operand's name; those of optimizers come before a list of tensors."""
    if place < 3 and work.op.name in ("adamw", "sgd"):
        return ("lr", "step", "scale")[place]
    return input_name(work.op, place)

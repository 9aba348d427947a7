"""Attention: scale, masks, positions, shared heads, the cache of keys and values."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from groundup_conformance.budgets.units import Array
from groundup_conformance.selftest.planting import Call, changed, compute, kernel

_SDPA: Final = "scaled_dot_product_attention"
_BACK: Final = "scaled_dot_product_attention_backward"
_GRADIENT: Final = f"{_SDPA}[float32,*,gradient]"


def _extras(call: Call) -> tuple[Array | None, list[Array]]:
    """(mask, what follows it) of a call of attention."""
    rest = call.inputs[3:]
    return (rest[0], rest[1:]) if call.op.masked else (None, rest)


def _seen(call: Call, diagonal: int) -> list[Array]:
    """The results with `causal` as a mask whose triangle ends at that diagonal."""
    q, k, v = call.inputs[:3]
    mask, rest = _extras(call)
    triangle = np.tri(q.shape[2], k.shape[2], diagonal, np.dtype(np.bool_))
    if mask is not None and mask.dtype == np.bool_:
        triangle = np.logical_and(mask, triangle)
    elif mask is not None:
        triangle = np.where(triangle, mask, -np.inf).astype(mask.dtype)
    return compute(
        call.device, changed(call.op, causal=False, masked=True), [q, k, v, triangle, *rest]
    )


@kernel(_SDPA, f"{_SDPA}[float32,causal,*,forward]")
def causal_mask_off_by_one(call: Call) -> None:
    """A query sees the key after its own."""
    call.fill(*(_seen(call, 1) if call.op.causal else call.right()))


@kernel(_SDPA, f"{_SDPA}[float32,cross-causal,*,forward]")
def causal_mask_from_the_end(call: Call) -> None:
    """With more keys than queries, the triangle is aligned at the last key instead of the first."""
    extra = call.inputs[1].shape[2] - call.inputs[0].shape[2]
    call.fill(*(_seen(call, extra) if call.op.causal else call.right()))


@kernel(_SDPA, f"{_SDPA}[float32,plain,*,forward]")
def scale_by_d(call: Call) -> None:
    """Scores are divided by D, not by its root."""
    call.fill(*call.right(scale=call.op.scale**2))


@kernel(_SDPA, f"{_SDPA}[float32,mask,*,forward]")
def masked_rows_are_nan(call: Call) -> None:
    """A query that may look nowhere gives NaN (0 / 0) instead of 0."""
    out, sums = call.right()
    nothing = np.isneginf(sums)[..., None]
    call.fill(np.where(nothing, np.asarray(np.nan, out.dtype), out), sums)


@kernel(_SDPA, f"{_SDPA}[float32,grouped,*,forward]")
def heads_shared_in_turn(call: Call) -> None:
    """Query head h reads head h mod G of the keys, not h // (H / G)."""
    q, k, v, *rest = call.inputs
    shared = q.shape[1] // max(k.shape[1], 1)
    call.fill(*call.right(q, *(np.tile(x, (1, shared, 1, 1)) for x in (k, v)), *rest))


@kernel(_SDPA, f"{_SDPA}[float32,dropout,*,forward]")
def dropout_of_every_head_the_same(call: Call) -> None:
    """All heads drop the same places: the random stream starts anew for each."""
    if not call.op.dropout or call.inputs[0].shape[1] != call.inputs[1].shape[1]:
        call.fill(*call.right())
        return
    q, k, v, *rest = call.inputs
    for head in range(q.shape[1]):
        one = slice(head, head + 1)
        parts = [x[:, one] if x.ndim == 4 and x.shape[1] > 1 else x for x in rest]
        results = call.right(q[:, one], k[:, one], v[:, one], *parts)
        for target, value in zip(call.outputs, results, strict=True):
            target[:, one] = value


@kernel(_BACK, _GRADIENT, ops=_SDPA, level=2)
def query_gradient_without_scale(call: Call) -> None:
    """The gradient of q lacks the factor of the scores."""
    dq, dk, dv = call.right()
    call.fill(dq / call.op.scale, dk, dv)


@kernel(_BACK, f"{_SDPA}[float32,grouped,*,gradient]", ops=_SDPA, level=2)
def shared_head_gets_one_gradient(call: Call) -> None:
    """Keys that several query heads share get the gradient of the last of them."""
    dq, dk, dv = call.right()
    q, k = call.inputs[:2]
    shared = q.shape[1] // max(k.shape[1], 1)
    call.fill(dq, dk / shared, dv / shared)


@kernel("rotary_embedding", "rotary_embedding[float32,heads,*]")
def positions_off_by_one(call: Call) -> None:
    """Positions are counted from 1."""
    x, positions = call.inputs
    call.fill(*call.right(x, positions + 1))


@kernel("rotary_embedding", "rotary_embedding[float32,*]")
def neighbours_are_paired(call: Call) -> None:
    """Elements 2i and 2i + 1 are turned together, not i and i + D / 2."""
    x, positions = call.inputs
    halves = np.concatenate([x[..., 0::2], x[..., 1::2]], -1)
    [turned] = call.right(halves, positions)
    half = x.shape[-1] // 2
    y = np.empty_like(turned)
    y[..., 0::2], y[..., 1::2] = turned[..., :half], turned[..., half:]
    call.fill(y)


@kernel("rotary_embedding", "rotary_embedding[float32,*,gradient]", level=2)
def turned_the_wrong_way_back(call: Call) -> None:
    """The gradient is turned forwards once more."""
    call.fill(*call.right(inverse=False))


@kernel("cached_attention", "cached_attention[float32,step,*]")
def cache_one_too_short(call: Call) -> None:
    """The newest key is not looked at."""
    q, k, v, length = call.inputs
    call.fill(*call.right(q, k, v, np.maximum(length - 1, 0).astype(length.dtype)))


@kernel("cached_attention", "cached_attention[float32,unfilled,*] cached_attention[float32,step,*]")
def cache_read_to_its_end(call: Call) -> None:
    """Places of the cache that are not filled yet are looked at."""
    q, k, v, length = call.inputs
    if q.shape[2] == 1:
        length = np.full_like(length, k.shape[2])
    call.fill(*call.right(q, k, v, length))


def _moved(call: Call, shift: int) -> None:
    x, update, starts = call.inputs
    moved = np.array(starts)
    if moved.size > 1:
        moved[-2] += shift
    call.fill(*call.right(x, update, moved))


@kernel("dynamic_update_slice", "dynamic_update_slice[float32,cache,*]")
def cache_position_off_by_one(call: Call) -> None:
    """Keys and values are written one place too far."""
    _moved(call, 1)


@kernel("dynamic_update_slice", "dynamic_update_slice[float32,clamped,*]")
def window_wraps_around(call: Call) -> None:
    """A window that does not fit continues at the start of the axis instead of moving back."""
    x, update, starts = call.inputs
    result = np.array(x)
    if update.size:
        places: list[Any] = [
            (int(start) + np.arange(n)) % size
            for start, n, size in zip(starts, update.shape, x.shape, strict=True)
        ]
        result[np.ix_(*places)] = update
    call.fill(result)


@kernel("cached_attention", "generate[*]", ops="-", level=3)
def step_of_decoding_sees_too_little(call: Call) -> None:
    """Decoding one token after the other never looks at the first one."""
    q, k, v, length = call.inputs
    if q.shape[2] > 1 or int(length.reshape(-1)[0]) < 2:
        call.fill(*call.right())
        return
    shorter = (length - 1).astype(length.dtype)
    call.fill(*call.right(q, k[:, :, 1:], v[:, :, 1:], shorter))

"""Moving elements of Numbers: any function that only moves them, choices, largest of two."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle.number import Number, inexact


def select(function: Callable[..., Array], *sources: Number) -> Number:
    """`function` of arrays that moves elements and computes nothing, applied to Numbers.

    Applied to the elements' numbers instead of their values it tells where each came from, and so
    where its gradient belongs: gradients of an element that went to several places are summed.
    """
    value = function(*[x.value for x in sources])
    exact = all(x.error is None for x in sources)
    error = 0.0 if exact else function(*[x.bound for x in sources])

    def pull(g: Number) -> Sequence[Number]:
        origin = function(*numbered([x.shape for x in sources])).reshape(-1)
        return scattered(g, origin, sources)

    return sources[0].made(np.array(value), error, *sources, pull=pull)


def numbered(shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Arrays of these shapes that together hold 0, 1, 2 ..."""
    found, start = [], 0
    for shape in shapes:
        size = int(np.prod(shape, dtype=np.int64))
        found.append(np.arange(start, start + size).reshape(shape))
        start += size
    return found


def scattered(g: Number, origin: Array, sources: Sequence[Number]) -> list[Number]:
    """Per source, the sum of the elements of g that came from each of its elements."""
    sizes = [x.value.size for x in sources]
    count = np.bincount(origin, minlength=sum(sizes))

    def summed(values: Array) -> Array:
        return np.bincount(origin, np.ravel(values), minlength=sum(sizes))

    value = summed(g.value)
    again = count > 1
    through = 0.0 if g.error is None else summed(g.bound)
    local: Array | float = 0.0
    if again.any():
        size = summed(np.abs(g.value)) + through
        local = g.profile.summed(np.maximum(count - 1, 0), size, g.dtype)
        if g.dtype.bits < 32:
            local = local + np.where(again, g.rounding(value, through + local), 0.0)
    every = inexact(value, local, g, through)
    ends = np.cumsum(sizes)[:-1]

    def part(i: int) -> Number:
        return every.moved(lambda a: np.split(a, ends)[i].reshape(sources[i].shape))

    return [part(i) for i in range(len(sources))]


def reshape(x: Number, shape: Sequence[int]) -> Number:
    """The same elements in another shape."""
    return _rearranged(x, lambda a: a.reshape(shape), lambda a: a.reshape(x.shape))


def permute(x: Number, axes: Sequence[int]) -> Number:
    """Axis i of the result is axis `axes[i]` of x."""
    back = np.argsort(axes)
    return _rearranged(x, lambda a: a.transpose(axes), lambda a: a.transpose(back))


def transpose(x: Number) -> Number:
    """The last two axes swapped."""
    return _rearranged(x, lambda a: a.swapaxes(-1, -2), lambda a: a.swapaxes(-1, -2))


def expand(x: Number, shape: Sequence[int]) -> Number:
    """Repeated to `shape`; the gradient is summed."""
    wanted = tuple(shape)
    if x.shape == wanted:
        return x
    moved = x.moved(lambda a: np.broadcast_to(a, wanted))
    return x.made(moved.value, _error(moved), x, pull=lambda g: (g.fitted(x),))


def concat(parts: Sequence[Number], axis: int) -> Number:
    """One after the other along `axis`."""
    value = np.concatenate([x.value for x in parts], axis)
    error = np.concatenate([x.bound for x in parts], axis)
    ends = np.cumsum([x.shape[axis] for x in parts])

    def pull(g: Number) -> list[Number]:
        def piece(i: int) -> Number:
            return g.moved(lambda a: np.split(a, ends[:-1], axis)[i])

        return [piece(i) for i in range(len(parts))]

    return parts[0].made(value, error if error.any() else 0.0, *parts, pull=pull)


def where(condition: Array, x: Number, y: Number) -> Number:
    """x where the condition holds, else y. The gradient of what was not chosen is 0."""
    value = np.where(condition, x.value, y.value)
    error = np.where(condition, x.bound, y.bound) if x.error is not y.error else 0.0
    return x.made(
        value, error, x, y,
        pull=lambda g: (
            x.wanting(lambda: masked(condition, g)), y.wanting(lambda: masked(~condition, g))
        ),
    )  # fmt: skip


def masked(condition: Array, g: Number) -> Number:
    """g where the condition holds, else exactly 0."""
    return g.moved(lambda a: np.where(condition, a, 0.0))


def larger(x: Number, y: Number) -> Number:
    """The maximum; NaN if either is. Equal values share the gradient."""
    return _extreme(x, y, np.maximum(x.value, y.value), x.value > y.value)


def smaller(x: Number, y: Number) -> Number:
    """The minimum; NaN if either is. Equal values share the gradient."""
    return _extreme(x, y, np.minimum(x.value, y.value), x.value < y.value)


def _extreme(x: Number, y: Number, value: Array, first: Array) -> Number:
    error = np.maximum(x.bound, y.bound) if x.error is not y.error else 0.0
    share = np.where(x.value == y.value, 0.5, np.where(first, 1.0, 0.0))
    return x.made(
        value, error, x, y,
        pull=lambda g: (
            x.wanting(lambda: g * g.constant(share)), y.wanting(lambda: g * g.constant(1 - share))
        ),
    )  # fmt: skip


def _rearranged(
    x: Number, function: Callable[[Array], Array], back: Callable[[Array], Array]
) -> Number:
    moved = x.moved(function)
    return x.made(moved.value, _error(moved), x, pull=lambda g: (g.moved(back),))


def _error(x: Number) -> Array | float:
    return 0.0 if x.error is None else x.error

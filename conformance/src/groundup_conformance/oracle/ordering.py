"""References of sort, topk, argmax and argmin."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup.dtypes import as_dtype
from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle.moves import select
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import Undecided, exact, reference

Pair = tuple[Any, Array]


@reference("sort")
def _sort(op: Any, x: Number) -> Pair:
    """Values as they lie, NaN behind all; equal values keep their order."""
    order = _order(x.value, op.axis, op.descending)
    return select(lambda a: np.take_along_axis(a, order, op.axis), x), order.astype(np.int32)


@reference("topk")
def _topk(op: Any, x: Number) -> Pair:
    """The first k of the descending order."""
    order = np.take(_order(x.value, op.axis, True), np.arange(op.k), op.axis)
    return select(lambda a: np.take_along_axis(a, order, op.axis), x), order.astype(np.int32)


@exact("sort")
def _sort_integers(op: Any, x: Array) -> Pair:
    order = _order(x.astype(np.int64), op.axis, op.descending)
    return np.take_along_axis(x, order, op.axis), order.astype(np.int32)


@exact("topk")
def _topk_integers(op: Any, x: Array) -> Pair:
    order = np.take(_order(x.astype(np.int64), op.axis, True), np.arange(op.k), op.axis)
    return np.take_along_axis(x, order, op.axis), order.astype(np.int32)


def _order(x: Array, axis: int, descending: bool) -> Array:
    """Indices in rising or falling order, NaN the largest; stable either way.

    Values become their rank among the distinct ones, which can be negated where values cannot.
    """
    distinct, rank = np.unique(x, return_inverse=True)
    nans = int(np.isnan(distinct.astype(np.float64)).sum())
    rank = np.minimum(rank.reshape(x.shape), max(len(distinct) - nans, 0))
    return np.argsort(-rank if descending else rank, axis, kind="stable")


@exact("argmax")
def _argmax(op: Any, x: Array) -> Array:
    """The first of the largest; the first NaN where there is one."""
    return _position(op, _comparable(x))


@exact("argmin")
def _argmin(op: Any, x: Array) -> Array:
    """The first of the smallest; the first NaN where there is one."""
    found = _comparable(x)
    return _position(op, -found if found.dtype == np.float64 else ~found)


def _comparable(x: Array) -> Array:
    return x.astype(np.float64 if as_dtype(x.dtype).is_floating else np.int64)


def _position(op: Any, x: Array) -> Array:
    found = np.argmax(x, axis=op.axis, keepdims=op.keepdims)  # NumPy: NaN counts as the largest
    return np.asarray(found, np.int32)


def first_largest(x: Number) -> Undecided:
    """argmax along the last axis of values that may be off: undecided where two may be first."""
    found = np.argmax(x.value, -1)
    best = np.take_along_axis(x.value, found[..., None], -1)
    edge = best - np.take_along_axis(x.bound, found[..., None], -1)
    rivals = (x.value + x.bound >= edge) & np.isfinite(x.value)
    undecided = (rivals.sum(-1) > 1) & np.isfinite(best[..., 0])
    return Undecided(found.astype(np.int32), undecided)

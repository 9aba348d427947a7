"""References of matrix products and einsum."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from groundup_conformance.budgets.units import Array
from groundup_conformance.oracle.moves import expand, permute, reshape, transpose
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import exact, reference
from groundup_conformance.oracle.sums import matmul

Labels = tuple[str, ...]


@reference("matmul")
def _matmul(op: Any, x: Number, y: Number) -> Number:
    """Over the last two axes; a vector is a row of x, a column of y. Leading axes broadcast."""
    row = x if x.value.ndim > 1 else reshape(x, (1, -1))
    column = y if y.value.ndim > 1 else reshape(y, (-1, 1))
    lead = np.broadcast_shapes(row.shape[:-2], column.shape[:-2])
    product = matmul(
        expand(row, (*lead, *row.shape[-2:])), expand(column, (*lead, *column.shape[-2:]))
    )
    rows = x.shape[-2:-1] if x.value.ndim > 1 else ()
    columns = y.shape[-1:] if y.value.ndim > 1 else ()
    return reshape(product, (*lead, *rows, *columns))


@exact("matmul")
def _matmul_integers(op: Any, x: Array, y: Array) -> Array:
    return (x.astype(np.int64) @ y.astype(np.int64)).astype(x.dtype)


@reference("linear")
def _linear(op: Any, x: Number, weight: Number, bias: Number | None = None) -> Number:
    """x (..., K) times weight (N, K) transposed, plus bias (N,)."""
    rows = reshape(x, (prod(x.shape[:-1]), x.shape[-1]))
    product = matmul(rows, transpose(weight))
    out = reshape(product, (*x.shape[:-1], weight.shape[0]))
    return out if bias is None else out + bias


@reference("einsum")
def _einsum(op: Any, *operands: Number) -> Number:
    """From left to right; what no later operand and not the result has is summed at each step."""
    terms, result = _parsed(op.equation, [x.value.ndim for x in operands])
    total, labels = operands[0], terms[0]
    if len(operands) == 1:
        return _arranged(*_summed(total, labels, {*result}), result, {})
    for i, (x, theirs) in enumerate(zip(operands[1:], terms[1:], strict=True), 1):
        wanted = {*result}.union(*terms[i + 1 :])
        total, labels = _summed(total, labels, wanted.union(theirs))
        x, theirs = _summed(x, theirs, wanted.union(labels))
        every = tuple(dict.fromkeys((*labels, *theirs)))
        sizes = _sizes((labels, total.shape), (theirs, x.shape))
        left = _arranged(total.wide(), labels, every, sizes)
        right = _arranged(x.wide(), theirs, every, sizes)
        total, labels = _summed(left * right, every, wanted)
        total = total.to(x.dtype)
    sizes = _sizes((labels, total.shape))
    return _arranged(total, labels, result, sizes)


@exact("einsum")
def _einsum_integers(op: Any, *operands: Array) -> Array:
    wide = [x.astype(np.int64) for x in operands]
    found = np.einsum(op.equation, *wide)
    return np.asarray(found).astype(operands[0].dtype)


def _parsed(equation: str, ranks: list[int]) -> tuple[list[Labels], Labels]:
    """One label per axis; those of "..." are numbered from the right."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    longest = max(r - len(p.replace("...", "")) for p, r in zip(parts, ranks, strict=True))

    def labels(part: str, dots: int) -> Labels:
        head, found, tail = part.partition("...")
        middle = [str(i) for i in reversed(range(dots))] if found else []
        return (*head, *middle, *tail)

    terms = [labels(p, r - len(p.replace("...", ""))) for p, r in zip(parts, ranks, strict=True)]
    if arrow:
        return terms, labels(right, longest)
    every = "".join(p.replace("...", "") for p in parts)
    once = sorted(letter for letter in every if every.count(letter) == 1)
    return terms, (*labels("..." if "..." in left else "", longest), *once)


def _sizes(*pairs: tuple[Labels, tuple[int, ...]]) -> dict[str, int]:
    """The size of each label; an axis of size 1 under "..." broadcasts."""
    found: dict[str, int] = {}
    for labels, shape in pairs:
        for label, size in zip(labels, shape, strict=True):
            found[label] = size if found.get(label, 1) == 1 else found[label]
    return found


def _arranged(x: Number, labels: Labels, wanted: Labels, sizes: dict[str, int]) -> Number:
    """x with an axis for each wanted label, in order; those that it lacks repeat it."""
    have = [label for label in wanted if label in labels]
    turned = permute(x, [labels.index(label) for label in have])
    shape = [turned.shape[have.index(label)] if label in have else 1 for label in wanted]
    full = [sizes.get(label, n) for label, n in zip(wanted, shape, strict=True)]
    return expand(reshape(turned, shape), full)


def _summed(x: Number, labels: Labels, wanted: set[str]) -> tuple[Number, Labels]:
    axes = [i for i, label in enumerate(labels) if label not in wanted]
    return (x.sum(axes) if axes else x), tuple(label for label in labels if label in wanted)

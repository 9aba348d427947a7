"""The references: per op a function that says what it means.

Four kinds, by what a function gets:

- `@reference("softmax")`: floating inputs as `Number`s, others as arrays; returns Numbers (or
  arrays for outputs that are exact). Value, budget and gradient follow.
- `@exact("argmax")`: arrays of whatever dtype; returns the arrays that must come out, bit by bit.
- `@moves("flip")`: arrays; moves elements and computes nothing. Values must come out as they are,
  signs of zeros included, and gradients follow from where the elements went.
- `@created("normal")`: the profile first, then arrays; for ops without floating inputs whose
  results are Numbers all the same.

An op may have one for floats and one (`@exact`) for integers. `@gradient("softmax")` replaces the
gradient that the reference's own operations give, for ops whose gradient reads results that were
stored, and rounded, in between.

A function is called with the op instance and its inputs, in order, after the casts and expansions
that the core inserts. Packages with ops of their own register references the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from groundup_conformance.budgets.units import Array

Reference: TypeAlias = Callable[..., Any]
Decorated = TypeVar("Decorated", bound=Reference)
Fill: TypeAlias = Callable[[Any], float]

NUMBERS: Final[dict[str, Reference]] = {}
EXACT: Final[dict[str, Reference]] = {}
MOVES: Final[dict[str, Reference]] = {}
CREATED: Final[dict[str, Reference]] = {}
FILLS: Final[dict[str, Fill]] = {}
GRADIENTS: Final[dict[str, Reference]] = {}


@attrs.frozen(eq=False)
class Undecided:
    """Exact values of an output, and where they are not determined, so that any value will do."""

    values: Array
    free: Array


def reference(*names: str) -> Callable[[Decorated], Decorated]:
    """Register what ops mean, in Numbers."""
    return _into(NUMBERS, names)


def exact(*names: str) -> Callable[[Decorated], Decorated]:
    """Register what ops mean, in arrays that a device must return bit by bit."""
    return _into(EXACT, names)


def moves(*names: str, fill: Fill | None = None) -> Callable[[Decorated], Decorated]:
    """Register where ops move elements.

    With `fill`, the function gets one more argument, an array of rank 0 that holds `fill(op)`: what
    stands where no element is moved to.
    """
    if fill is not None:
        FILLS.update(dict.fromkeys(names, fill))
    return _into(MOVES, names)


def created(*names: str) -> Callable[[Decorated], Decorated]:
    """Register what ops without floating inputs mean: f(op, profile, *arrays)."""
    return _into(CREATED, names)


def gradient(*names: str) -> Callable[[Decorated], Decorated]:
    """Register the gradients of ops: f(op, inputs, stored outputs, cotangents) -> one per input.

    Cotangents of outputs that have none are Numbers of zeros.
    """
    return _into(GRADIENTS, names)


def _into(table: dict[str, Reference], names: Sequence[str]) -> Callable[[Decorated], Decorated]:
    def register(function: Decorated) -> Decorated:
        for name in names:
            table[name] = function
        return function

    return register

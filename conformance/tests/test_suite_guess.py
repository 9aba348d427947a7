"""Guesses at causes: typical bugs give the right words, and right results give none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from groundup.dtypes import float16, float32
from groundup.ops.op import REGISTRY
from groundup_conformance import guess
from groundup_conformance.budgets import IEEE, Expected
from groundup_conformance.layouts import LAYOUTS
from groundup_conformance.memory import Placed, placed
from groundup_conformance.oracle import forward

Array = np.ndarray[Any, np.dtype[Any]]
RNG = np.random.default_rng(3)
WANTED = RNG.standard_normal((8, 33))


def expected(values: Array = WANTED, kind: Any = float32) -> Expected:
    return Expected(values, kind, np.full(values.shape, 1e-6), IEEE)


def words(got: Array, wanted: Expected) -> str:
    return guess.cause_of_gradient(got, wanted, wanted.judge(got)) or ""


def tail(x: Array) -> Array:
    x[:, 26:] += 1
    return x


def unwritten(x: Array) -> Array:
    x[:, 32:] = np.nan
    return x


def zeros(x: Array) -> Array:
    x[6:] = 0
    return x


def shifted(x: Array) -> Array:
    return np.roll(x, 1)


CAUSES: list[tuple[Callable[[Array], Array], str]] = [
    (tail, "last 7 of 33 along axis 1"),
    (unwritten, "NaN only in the last 1 of 33"),
    (zeros, "zeros in the last 2 of 8 along axis 0"),
    (shifted, "off by one"),
    (lambda x: x * 2, "2 times what it must be"),
    (lambda x: x + 3, "+3 from what it must be"),
    (lambda x: x * (1 + 1e-3 * RNG.standard_normal(x.shape)), "TF32"),
]


@pytest.mark.parametrize(("bug", "text"), CAUSES, ids=[text for _, text in CAUSES])
def test_patterns(bug: Callable[[Array], Array], text: str) -> None:
    got = bug(WANTED.copy()).astype(np.float32)
    assert text in words(got, expected())


def test_narrow_sums() -> None:
    noise = 1 + 1e-2 * RNG.standard_normal(WANTED.shape)
    got = (WANTED * noise).astype(np.float16)
    assert "sums kept in float16" in words(got, expected(kind=float16))


def test_lost_nan() -> None:
    values = WANTED.copy()
    values[2, 3] = np.nan
    got = np.nan_to_num(values).astype(np.float32)
    assert "NaN does not propagate" in words(got, expected(values))


@pytest.mark.parametrize(
    ("layout", "misread", "text"),
    [
        ("transposed", lambda x: x.base.reshape(x.shape), "strides are ignored"),
        ("shifted", lambda x: x.base[: x.layout.size].reshape(x.shape), "offset is ignored"),
    ],
)
def test_operands_that_were_misread(
    layout: str, misread: Callable[[Placed], Array], text: str
) -> None:
    op = REGISTRY["exp"]()
    values = RNG.standard_normal((4, 6)).astype(np.float32)
    operand = LAYOUTS[layout](values)
    assert operand is not None
    [wanted] = forward(op, [operand.array], IEEE)
    got = np.exp(misread(operand))
    verdict = wanted.judge(got)
    assert not verdict.ok
    assert text in (guess.cause(op, [operand], got, wanted, verdict) or "")


def test_swapped_operands() -> None:
    op = REGISTRY["sub"]()
    x, y = (RNG.standard_normal((4, 6)).astype(np.float32) for _ in range(2))
    [wanted] = forward(op, [x, y], IEEE)
    verdict = wanted.judge(y - x)
    found = guess.cause(op, [placed(x), placed(y)], y - x, wanted, verdict)
    assert found is not None
    assert "first two operands swapped" in found


def test_chance_is_no_pattern() -> None:
    got = WANTED.astype(np.float32)
    got[3, 30] += 1e-3
    assert words(got, expected()) == ""

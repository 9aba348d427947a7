"""Tensors from nothing, borders, and writing in place: NumPy's strided copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from groundup.backends.api import View
from groundup.layout import Layout
from groundup_numba.native import Plan, dense, native, strided

Layouts = Sequence[Layout]


@native("full", "shape", "value", "dtype")
def _full(op: Any, inputs: Layouts, outputs: Layouts) -> Plan:
    return Plan(lambda out: dense(out).fill(op.value))


@native("arange", "start", "step", "count", "dtype")
def _arange(op: Any, inputs: Layouts, outputs: Layouts) -> Plan:
    def run(out: View) -> None:
        dense(out)[...] = np.arange(op.count) * op.step + op.start

    return Plan(run)


@native("assign")
def _assign(op: Any, inputs: Layouts, outputs: Layouts) -> Plan:
    """If `value` overlaps the target, NumPy copies it first."""

    def run(target: View, value: View, out: View) -> None:
        np.copyto(strided(out), strided(value))

    return Plan(run, in_place={0: 0})


@native("pad", "before", "after", "value", "interior")
def _pad(op: Any, inputs: Layouts, outputs: Layouts) -> Plan:
    shape = inputs[0].shape
    steps = [gap + 1 for gap in op.gaps(len(shape))]
    sizes = zip(op.before, shape, steps, strict=True)
    stops = [low + max((n - 1) * step + 1, 0) for low, n, step in sizes]
    window: list[Any] = [slice(*each) for each in zip(op.before, stops, steps, strict=True)]

    def run(x: View, out: View) -> None:
        dense(out).fill(op.value)
        strided(out)[(*window, ...)] = strided(x)

    return Plan(run)

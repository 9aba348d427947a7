"""sort, by NumPy: the composition compares every element with every other one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from groundup.backends.api import View
from groundup.layout import Layout
from groundup_numba.native import Array, Plan, native, strided
from groundup_numba.threads import parallel


@native("sort", "axis", "descending")
def _sort(op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Plan:
    def run(*views: View) -> None:
        x, values, indices = (np.moveaxis(strided(v), op.axis, -1) for v in views)
        lines, sorted_lines, places = (a if a.ndim > 1 else a[None] for a in (x, values, indices))

        def work(low: int, high: int) -> None:
            order = _order(lines[low:high], op.descending)
            places[low:high] = order
            sorted_lines[low:high] = np.take_along_axis(lines[low:high], order, axis=-1)

        parallel(work, lines.shape[0], 16 * lines[:1].size)

    return Plan(run)


def _order(lines: Array, descending: bool) -> Array:
    """Stable either way: falling is sorted backwards and read backwards, so that ties keep."""
    if not descending:
        return np.argsort(lines, axis=-1, kind="stable")
    backwards = np.argsort(lines[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    order: Array = lines.shape[-1] - 1 - backwards
    return order

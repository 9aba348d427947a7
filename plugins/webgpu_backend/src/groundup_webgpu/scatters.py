"""scatter_add without atomics: every place is added to by one thread, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from groundup.layout import Layout
from groundup_webgpu.machine import Machine
from groundup_webgpu.maps import mapped
from groundup_webgpu.reductions import WIDE, taken
from groundup_webgpu.source import (
    OUT,
    SCRATCH,
    STORED,
    WORKGROUP,
    Parameters,
    Stage,
    collapsed,
    spread,
    walk,
)  # fmt: skip

_TURNS: Final = 1 << 14  # of one thread's loop; Mesa's software driver leaves loops after 65,535


def scattered(op: Any, inputs: Sequence[Layout], out: Layout, machine: Machine) -> list[Stage]:
    """x is copied, then source elements are added, each place by one thread and in order.

    So every run has the same bits. float16 would round every time: it is added up in scratch
    memory, as float32.
    """
    x, indices, source = inputs
    total = Layout(out.shape, out.strides, WIDE.get(x.dtype, x.dtype))
    target = OUT if total.dtype is x.dtype else SCRATCH
    stages = [mapped("a", [(1, x)], total, target)]
    axis = op.axis % x.rank
    for start in range(0, indices.shape[axis] if indices.size else 0, _TURNS):
        stages.append(_Added(axis, start, total, indices, source, target, machine).stage())
    if target == SCRATCH:
        stages.append(mapped("a", [(SCRATCH, total)], out))
    return stages


@attrs.frozen
class _Added:
    """What stands from `start` on `axis`, added to the places of `out`."""

    axis: int
    start: int
    out: Layout
    indices: Layout
    source: Layout
    target: int
    machine: Machine

    def stage(self) -> Stage:
        """A thread has one line along the axis, or a vector of lines, and a range of the places."""
        shared = self._lines(self.indices).size > 1 and not any(self._lines(self.indices).strides)
        if self.machine.software or not shared:
            return self._made("scatter", 1)
        made = self._made("scatter_rows", 1)
        return attrs.evolve(made, aligned=self._made("scatter_rows", 4)) if self._whole else made

    def _lines(self, x: Layout) -> Layout:
        return taken(x, [a for a in range(self.out.rank) if a != self.axis])

    @property
    def _whole(self) -> bool:
        """Whether four lines side by side are vectors wherever they are read or written."""
        places, given = self._lines(self.out), self._lines(self.source)
        shape, steps = collapsed(given.shape, places.strides, given.strides)
        others = (self.out.strides[self.axis], self.source.strides[self.axis])
        outer = [s for each in steps for s in each[:-1]]
        beside = all(each[-1] == 1 for each in steps)
        return beside and shape[-1] % 4 == 0 and not any(s % 4 for s in (*others, *outer))

    def _made(self, family: str, width: int) -> Stage:
        lines, given = self._lines(self.indices), self._lines(self.source)
        shape, (own, read, place) = collapsed(
            lines.shape, lines.strides, given.strides, self._lines(self.out).strides
        )
        if width > 1:  # of the last axis, which the indices do not go along
            shape = (*shape[:-1], shape[-1] // width)
            read, place = ((*steps[:-1], width) for steps in (read, place))
        count = lines.size // width
        stop = min(self.start + _TURNS, self.indices.shape[self.axis])
        bound = self.out.shape[self.axis]
        # All go over all indices: the fewer do, the less is read; those of vectors have more to do.
        lanes = max(1, min(stop - self.start, bound, self.machine.threads // width // count))
        span = -(-bound // lanes)  # places of a thread
        lanes = -(-bound // span)
        parameters = Parameters(3)
        add = parameters.add
        parts = {
            "index": walk(parameters, "i", shape, place=place, at0=own, at1=read),
            "size": add(count * lanes), "lines": add(count), "lanes": add(lanes),
            "span": add(span), "start": add(self.start), "stop": add(stop), "bound": add(bound),
            "step": add(self.out.strides[self.axis]), "width": str(width),
            "index_step": add(self.indices.strides[self.axis]),
            "source_step": add(self.source.strides[self.axis]),
        }  # fmt: skip
        kinds = STORED[self.out.dtype], STORED[self.source.dtype]
        changed, added = (f"vec4<{k}>" if width > 1 else k for k in kinds)
        memory = ((self.target, changed), (2, STORED[self.indices.dtype]), (3, added))
        groups = spread(count * lanes)
        if family == "scatter_rows":
            groups = spread(-(-count // WORKGROUP) * lanes, 1)
        return Stage(family, parts, tuple(parameters.values), memory, groups)

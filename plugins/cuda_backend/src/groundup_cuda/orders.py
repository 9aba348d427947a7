"""sort and topk: tiles of lines are sorted in shared memory, then merged or thinned out."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Final

import attrs

from groundup import dtypes
from groundup.layout import Layout
from groundup.shapes import Shape, normalize_axis
from groundup_cuda.expressions import STORED
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.rows import flag
from groundup_cuda.source import (
    OUT,
    SCRATCH,
    THREADS,
    Parameters,
    Stage,
    read,
    stage,
    walk,
    without,
)

_TILE: Final = 2048  # items that a block sorts
_LEAST: Final = 8  # that a thread sorts, so no tile is smaller


@attrs.frozen
class _Lines:
    """What all launches know: the operands, along which axis, which way, and bytes of an item."""

    x: Layout
    outputs: Layouts
    axis: int
    falling: bool

    @property
    def shape(self) -> Shape:
        """The axes over which the lines lie."""
        return without(self.axis, self.x.shape)

    @property
    def many(self) -> int:
        """How many lines."""
        return prod(self.shape)

    @property
    def length(self) -> int:
        """Elements of a line."""
        return self.x.shape[self.axis]

    @property
    def kept(self) -> int:
        """Elements of a line of the result."""
        return self.outputs[0].shape[self.axis]

    @property
    def item(self) -> tuple[str, int]:
        """The C++ type of an item and its bytes."""
        return ("wide_item", 16) if self.x.dtype is dtypes.int64 else ("u64", 8)


def lower_order(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """sort or topk along `op.axis`."""
    (x,) = inputs
    axis = normalize_axis(op.axis, x.rank, op.name)
    lines = _Lines(x, outputs, axis, op.name == "topk" or op.descending)
    if lines.length <= _TILE:
        return Lowered([_sorted(lines, lines.length, final=True)])
    return _thinned(lines) if 2 * lines.kept <= _TILE else _merged(lines)


def _thinned(lines: _Lines) -> Lowered:
    """Of every tile only the first items are kept; they make up shorter lines of the same kind."""
    steps: list[Stage] = []
    length, source, room = lines.length, 0, 0
    while length > _TILE:
        shorter = -(-length // _TILE) * lines.kept
        target = 0 if source or not steps else room  # the other half of the scratch memory
        room = room or lines.many * shorter
        made = _sorted(
            lines, length, kept=lines.kept, room=shorter, again=bool(steps), source=source,
            target=target,
        )  # fmt: skip
        steps.append(made)
        length, source = shorter, target
    steps.append(_sorted(lines, length, again=True, source=source, final=True))
    return Lowered(steps, scratch=2 * room * lines.item[1])


def _merged(lines: _Lines) -> Lowered:
    """Sorted tiles are runs, which are merged until there is one."""
    length, half = lines.length, lines.many * lines.length
    steps = [_sorted(lines, length, kept=_TILE, room=length)]
    run, source = _TILE, 0
    while run < length:
        steps.append(_merge(lines, run, source, half - source, final=2 * run >= length))
        run, source = 2 * run, half - source
    return Lowered(steps, scratch=2 * half * lines.item[1])


def _sorted(
    lines: _Lines, length: int, *, kept: int = 0, room: int = 0, source: int = 0, target: int = 0,
    again: bool = False, final: bool = False,
) -> Stage:  # fmt: skip
    """Tiles of lines of x, or of items that lie in scratch memory from `source` on (`again`), to
    the result (`final`) or to the first `kept` items of each tile, lines of `room` at `target`.
    """
    tile = min(_TILE, max(_LEAST, 1 << (length - 1).bit_length()))
    tiles = -(-length // tile)
    numbers = {
        "tiles": tiles, "length": length, "lines": lines.many, "kept": kept or lines.kept,
        "room": room, "source": source, "target": target,
    }  # fmt: skip
    blocks = -(-lines.many * tiles * tile // _TILE)
    flip = "~" if lines.falling else ""
    parts = {"tile": str(tile), "again": flag(again), "final": flag(final), "flip": flip}
    return _stage("sort", lines, blocks, numbers, parts)


def _merge(lines: _Lines, run: int, source: int, target: int, *, final: bool) -> Stage:
    """Runs of items at `source` to runs of twice the length, at `target` or in the result."""
    blocks = -(-(lines.kept if final else lines.length) // _TILE)
    numbers = {
        "length": lines.length, "run": run, "blocks": blocks, "kept": lines.kept,
        "source": source, "target": target,
    }  # fmt: skip
    return _stage("sort_merge", lines, lines.many * blocks, numbers, {"final": flag(final)})


def _stage(
    family: str, lines: _Lines, blocks: int, numbers: Mapping[str, int], parts: Mapping[str, str]
) -> Stage:
    """The numbers become parameters."""
    operands = [OUT, OUT - 1, 0, SCRATCH][: 3 + (lines.length > _TILE)]
    parameters = Parameters(len(operands))
    x, out, axis = lines.x, lines.outputs[0], lines.axis
    items = Layout((2 * lines.many * max(lines.length, _TILE),), (1,), dtypes.int64)
    steps = {"step": x.strides[axis], "out_step": out.strides[axis], **numbers}
    return stage(
        family, "order", parameters, operands, blocks * THREADS, [x, *lines.outputs, items],
        index=walk(
            parameters, "i", lines.shape, at0=without(axis, x.strides),
            place=without(axis, out.strides),
        ),
        items=read("sort_items"), item=lines.item[0], type=STORED[x.dtype], **parts,
        **{name: parameters.add(number) for name, number in steps.items()},
    )  # fmt: skip

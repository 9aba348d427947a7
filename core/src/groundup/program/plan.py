"""Where each value lies: one plan of memory for all values of a program, made before it runs.

A value is alive from the node that makes it to the last one that reads it. Values that are never
alive together may share memory. The largest come first, each into the smallest gap that holds it
(best fit; the idea of ordering by size is from Pisarchyk and Lee, "Efficient memory management for
deep neural net inference", 2020). Memory is reused in place where the op allows it (`aliases`), the
kernel does (`in_place`), and nobody reads the input afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import attrs

from groundup.backends.api import Device, Kernel
from groundup.program.lowering import Lowered
from groundup.program.program import Node, Program, Value
from groundup.program.views import PutView, StridedView


@attrs.frozen
class Place:
    """Bytes of an arena: `offset` to `offset + nbytes`."""

    arena: int
    offset: int
    nbytes: int


@attrs.frozen(eq=False)
class Plan:
    """Memory of a program's values. Views have that of the value they show: `base`.

    A value lies in `places`, or in the memory of the captured value that `homes` names, or it is
    an own block (setup). `workspaces` are the places of kernels' scratch.
    """

    places: Mapping[Value, Place]
    homes: Mapping[Value, Value]
    base: Mapping[Value, tuple[Value, int]]  # of views: the value shown, the offset in elements
    workspaces: Mapping[Node, Place]
    in_place: frozenset[Value]  # outputs that took over the memory of an input
    arenas: tuple[int, ...]  # bytes of each
    sum_of_values: int  # bytes, if nothing were reused
    live: tuple[int, ...]  # bytes that are alive while each node runs
    largest_live_set: int  # bytes: no plan can do with less

    @property
    def peak(self) -> int:
        """Bytes of all arenas."""
        return sum(self.arenas)

    def __str__(self) -> str:
        ratio = self.peak / self.largest_live_set if self.largest_live_set else 1.0
        return (
            f"{_mega(self.peak)} planned in {len(self.arenas)} arena(s), "
            f"{ratio:.3f} x the largest live set ({_mega(self.largest_live_set)}); "
            f"all values: {_mega(self.sum_of_values)}; in place: {len(self.in_place)}"
        )


def _mega(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.1f} MB"


def make_plan(lowered: Lowered) -> Plan:
    """The plan of a lowered program."""
    return _Planner(lowered).plan()


@attrs.define(eq=False)
class _Block:
    """Memory that one value, and those that take it over, need from `first` to `last`."""

    nbytes: int
    first: int
    last: int
    values: list[Value]
    node: Node | None = None  # whose workspace it is
    place: Place | None = None


class _Planner:
    """Time is the index of a node: -1 before the first, `end` after the last."""

    def __init__(self, lowered: Lowered) -> None:
        self.program: Program = lowered.program
        self.device: Device = lowered.device
        self.kernels: Mapping[Node, Kernel] = lowered.kernels
        self.end = len(self.program.nodes)
        self.base = bases(self.program)
        self.last_use = self._last_uses()
        self.homes: dict[Value, Value] = {}
        self.blocks: dict[Value, _Block] = {}
        self.in_place: set[Value] = set()

    def plan(self) -> Plan:
        self._find_homes()
        for value in self.program.inputs:
            self._open(value, -1)
        spaces = []
        for time, node in enumerate(self.program.nodes):
            if node.is_view:
                continue
            for index, out in enumerate(node.outputs):
                self._place_output(node, index, out, time)
            kernel = self.kernels.get(node)
            if kernel is not None and kernel.workspace:
                spaces.append(_Block(self._aligned(kernel.workspace), time, time, [], node))
        blocks = [*{id(block): block for block in self.blocks.values()}.values(), *spaces]
        arenas = _fit(blocks, self._limit())
        live = _live(blocks, self.end)
        places = {v: b.place for v, b in self.blocks.items() if b.place is not None}
        return Plan(
            places=places,
            homes=self.homes,
            base=self.base,
            workspaces={b.node: b.place for b in spaces if b.node is not None and b.place},
            in_place=frozenset(self.in_place),
            arenas=arenas,
            sum_of_values=sum(self._size(value) for value in self._made()),
            live=tuple(live[1:-1]),
            largest_live_set=max(live),
        )

    def _made(self) -> Iterable[Value]:
        yield from self.program.inputs
        for node in self.program.nodes:
            if not node.is_view:
                yield from node.outputs

    def _size(self, value: Value) -> int:
        return self._aligned(value.layout.size * self.device.info.itemsize(value.layout.dtype))

    def _aligned(self, nbytes: int) -> int:
        step = self.device.info.alignment
        return -(-nbytes // step) * step

    def _limit(self) -> int | None:
        info = self.device.info
        limits = [size for size in (info.max_binding, info.max_buffer) if size is not None]
        return min(limits) // info.alignment * info.alignment if limits else None

    def root(self, value: Value) -> Value:
        """The value whose memory it is."""
        return self.base[value][0] if value in self.base else value

    def _last_uses(self) -> dict[Value, int]:
        last: dict[Value, int] = {}
        for time, node in enumerate(self.program.nodes):
            if not node.is_view:  # a view reads nothing; who reads it does
                for value in node.inputs:
                    last[self.root(value)] = time
        for value in self.program.results():
            last[self.root(value)] = self.end
        return last

    # ---- homes: state that is written where it will stay ----

    def _find_homes(self) -> None:
        """Values of effects that can be made in their target's own memory.

        With a value goes the chain of values that it takes over in place (two writes to one cache
        are two such steps), or the first of them would be copied. What the target held must not be
        read afterwards. Everything else is copied at the end of the run.
        """
        made = {
            out: (time, node)
            for time, node in enumerate(self.program.nodes)
            for out in node.outputs
        }
        for effect in self.program.effects:
            target, value = effect.target, effect.value
            if not target.layout.is_row_major or value in self.base or value in self.homes:
                continue
            last = self.last_use.get(target, -1)
            chain: list[Value] = []
            fits = 0  # how many of the chain may lie in the target
            while value in made and value not in self.homes:
                chain.append(value)
                time, node = made[value]
                source = self._takes_over(node, value)
                if last < time or (last == time and source is target):
                    fits = len(chain)
                if source is None or self.last_use.get(source) != time:
                    break
                value = source
            self.homes |= dict.fromkeys(chain[:fits], target)

    def _takes_over(self, node: Node, out: Value) -> Value | None:
        """The input whose memory the node can put `out` into, if nobody needs it afterwards."""
        index = node.outputs.index(out)
        if type(node.op) is PutView:
            source = 0
        elif node in self.kernels and index in node.op.aliases:
            source = node.op.aliases[index]
            if self.kernels[node].in_place.get(index) != source:
                return None
        else:
            return None
        value = node.inputs[source]
        others = [self.root(v) for i, v in enumerate(node.inputs) if i != source]
        if value in self.base or value in others or value.layout is not out.layout:
            return None
        return value

    # ---- the others ----

    def _open(self, value: Value, time: int) -> None:
        last = self.last_use.get(value, time)
        self.blocks[value] = _Block(self._size(value), time, max(last, time), [value])

    def _place_output(self, node: Node, index: int, out: Value, time: int) -> None:
        source = self._takes_over(node, out)
        if out in self.homes:
            home = self.homes[out]
            if source is not None and (source is home or self.homes.get(source) is home):
                self.in_place.add(out)
            return
        block = None if source is None else self.blocks.get(source)
        if source is None or block is None or self.last_use.get(source) != time:
            self._open(out, time)
            return
        block.values.append(out)
        block.last = max(self.last_use.get(out, time), time)
        self.blocks[out] = block
        self.in_place.add(out)


def bases(program: Program) -> dict[Value, tuple[Value, int]]:
    """For every view, the value that it shows and where in it, counted in elements."""
    found: dict[Value, tuple[Value, int]] = {}
    for node in (*program.setup, *program.nodes):
        if type(node.op) is StridedView:
            base, start = found.get(node.inputs[0], (node.inputs[0], 0))
            found[node.outputs[0]] = (base, start + node.op.offset)
    return found


def _live(blocks: Sequence[_Block], end: int) -> list[int]:
    """Bytes that are alive at each time, from before the first node to after the last."""
    change = [0] * (end + 3)
    for block in blocks:
        change[block.first + 1] += block.nbytes
        change[block.last + 2] -= block.nbytes
    return list(itertools.accumulate(change[:-1]))


def _fit(blocks: Sequence[_Block], limit: int | None) -> tuple[int, ...]:
    """Give every block its place; returns the arenas' sizes.

    An arena ends at `limit`; a block that is larger gets one of its own.
    """
    arenas: list[list[_Block]] = [[]]
    for block in sorted(blocks, key=lambda b: (-b.nbytes, b.first)):
        block.place = _place(block, arenas, limit)
        arenas[block.place.arena].append(block)
    sizes = [
        max((b.place.offset + b.nbytes for b in placed if b.place), default=0) for placed in arenas
    ]
    return tuple(sizes) if blocks else ()


def _place(block: _Block, arenas: list[list[_Block]], limit: int | None) -> Place:
    """In the first arena that has room; a new one is opened if none has."""
    for number, placed in enumerate(arenas):
        offset = _best_gap(block, placed)
        if limit is None or offset + block.nbytes <= limit or not placed:
            return Place(number, offset, block.nbytes)
    arenas.append([])
    return Place(len(arenas) - 1, 0, block.nbytes)


def _best_gap(block: _Block, placed: Sequence[_Block]) -> int:
    """The offset of the smallest gap among blocks alive at the same time, or behind them all."""
    if not block.nbytes:
        return 0
    spans = sorted(
        (other.place.offset, other.place.offset + other.nbytes)
        for other in placed
        if other.place and other.first <= block.last and block.first <= other.last and other.nbytes
    )
    best, smallest, free_from = -1, -1, 0
    for start, end in spans:
        gap = start - free_from
        if gap >= block.nbytes and (smallest < 0 or gap < smallest):
            best, smallest = free_from, gap
        free_from = max(free_from, end)
    return best if best >= 0 else free_from

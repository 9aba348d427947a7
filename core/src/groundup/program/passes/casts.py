"""Casts of mixed precision, which move many bytes and compute nothing: fewer of them.

What an op reads is cast in the op, and what it makes is cast there too (`recast`); weights are cast
together (`foreach_cast`). A backend that has no kernel for those composes them again, so nothing
is lost there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from groundup.dtypes import DType, float32
from groundup.ops.casting import Casts, ForeachCast, Recast
from groundup.ops.rounding import Cast
from groundup.program.passes.dead_code import remove_dead_code
from groundup.program.passes.lifetimes import Lifetimes
from groundup.program.passes.rewriting import Rewriter
from groundup.program.program import Node, Program, Value

# They are bound by memory and compute in float32 whatever they load; products want narrow operands,
# and elementwise ops have a pass of their own.
_FAMILIES: Final = frozenset({"loss", "normalization", "optimizer", "reduction"})
_SMALL: Final = 1 << 16  # bytes of a copy that may live longer than it must
_NEAR: Final = 8  # nodes for which a result in a second dtype may wait until it is read


def absorb_casts(program: Program) -> Program:
    """Casts to float32 before norms, losses, reductions and optimizers, and from it behind them, as
    part of these ops.

    The casts stay exact, so the results are the same to the bit wherever the op adds up in the same
    order. An input is read narrow if every reader of the cast does; a result that others need as it
    is comes out twice.
    """
    return remove_dead_code(_Absorbing(program).run())


class _Absorbing:
    """One pass over the nodes; each takes in the casts around it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes = program.nodes
        self.lives = Lifetimes(program)
        self.rewriter = Rewriter()
        self.dropped: set[int] = set()

    def run(self) -> Program:
        made = [self._around(i) if _is_able(node) else node for i, node in enumerate(self.nodes)]
        kept = [self.rewriter.node(n) for i, n in enumerate(made) if i not in self.dropped]
        return self.rewriter.program(self.program, kept)

    def _around(self, time: int) -> Node:
        """The node with the casts before and behind it, itself if there are none."""
        node = self.nodes[time]
        inputs = list(node.inputs)
        given: list[tuple[int, DType]] = []
        for place, value in enumerate(inputs):
            source = self._narrow(value, time)
            if source is not None:
                inputs[place] = source
                given.append((place, value.spec.dtype))
        outputs, made, again = self._results(time)
        if not (given or made or again):
            return node
        parameters = tuple((name, getattr(node.op, name)) for name in node.op.fields)
        call = (node.op.name, parameters)
        op = Recast(call=call, given=tuple(given), made=made, again=again)
        return attrs.evolve(node, op=op, inputs=tuple(inputs), outputs=tuple(outputs))

    def _narrow(self, value: Value, time: int) -> Value | None:
        """What an input is a wide copy of, if all that read the copy can read that instead."""
        cast = self.lives.producers.get(value)
        if cast is None or not _widens(cast):
            return None
        readers = self.lives.readers[value]
        if self.lives.end in readers or not all(_is_able(self.nodes[i]) for i in readers):
            return None
        return None if self.lives.outlives(cast.inputs[0], time) else cast.inputs[0]

    def _results(self, time: int) -> tuple[list[Value], Casts, Casts]:
        """The outputs, which of them are cast, and which come out in another dtype again."""
        outputs = list(self.nodes[time].outputs)
        made: list[tuple[int, DType]] = []
        again: list[tuple[int, DType]] = []
        for place, value in enumerate(self.nodes[time].outputs):
            casts = self._casts_of(value, time)
            alone = len(casts) == 1 and self.lives.readers[value] == set(*casts.values())
            for dtype, times in casts.items():
                first, *others = [self.nodes[i].outputs[0] for i in times]
                for other in others:
                    self.rewriter.replace(other, first)
                self.dropped.update(times)
                if alone:
                    outputs[place] = first
                    made.append((place, dtype))
                else:
                    outputs.append(first)
                    again.append((place, dtype))
        return outputs, tuple(made), tuple(again)

    def _casts_of(self, value: Value, time: int) -> dict[DType, list[int]]:
        """When a result is cast to something narrower, by dtype, and soon unless nobody else
        reads it.
        """
        readers = sorted(self.lives.readers.get(value, ()))
        casts = [i for i in readers if i < self.lives.end and _narrows(self.nodes[i])]
        if casts != readers:
            casts = [i for i in casts if i <= time + _NEAR]
        found: dict[DType, list[int]] = {}
        for i in casts:
            found.setdefault(self.nodes[i].outputs[0].spec.dtype, []).append(i)
        return found


def gather_casts(program: Program) -> Program:
    """Casts to narrower floats of what outlives a run, such as weights, in one op at the first of
    them.

    Of large copies only if most are needed until the last one is made, as they are in a training
    step: without a backward pass each is soon free again, and all of them together would take half
    of what the parameters take. What the backward pass casts again, because somebody asked for it
    (`checkpoint`), stays by itself.
    """
    lives = Lifetimes(program)
    captured = frozenset(program.captured)
    groups: dict[tuple[DType, bool], list[int]] = {}
    for time, node in enumerate(program.nodes):
        if _narrows(node) and node.inputs[0] in captured:
            key = node.outputs[0].spec.dtype, node.lane == "backward"
            groups.setdefault(key, []).append(time)
    nodes: dict[int, Node | None] = dict(enumerate(program.nodes))
    for (dtype, _), candidates in groups.items():
        times = _worth_it(lives, candidates)
        if len(times) > 1:
            nodes.update(dict.fromkeys(times))
            nodes[times[0]] = _together(dtype, [program.nodes[time] for time in times])
    kept = tuple(node for node in nodes.values() if node is not None)
    return attrs.evolve(program, nodes=kept)


def _worth_it(lives: Lifetimes, casts: Sequence[int]) -> Sequence[int]:
    """Those whose copies may live from the first cast on without need for more memory in all."""
    nbytes = {time: lives.nodes[time].outputs[0].spec.nbytes for time in casts}
    kept = [t for t in casts if lives.last_read(lives.nodes[t].outputs[0]) > casts[-1]]
    if 2 * sum(nbytes[time] for time in kept) > sum(nbytes.values()):
        return [time for time in casts if time in kept or nbytes[time] <= _SMALL]
    return [time for time in casts if nbytes[time] <= _SMALL]


def _together(dtype: DType, casts: Sequence[Node]) -> Node:
    inputs = tuple(cast.inputs[0] for cast in casts)
    outputs = tuple(cast.outputs[0] for cast in casts)
    return Node(ForeachCast(dtype=dtype), inputs, outputs, lane=casts[0].lane)


def _is_able(node: Node) -> bool:
    return node.op.family in _FAMILIES and "::" not in node.op.name


def _widens(node: Node) -> bool:
    if type(node.op) is not Cast:
        return False
    source, result = node.inputs[0].spec.dtype, node.outputs[0].spec.dtype
    return result is float32 and source.is_floating and source.bits < 32


def _narrows(node: Node) -> bool:
    if type(node.op) is not Cast:
        return False
    source, result = node.inputs[0].spec.dtype, node.outputs[0].spec.dtype
    return source is float32 and result.is_floating and result.bits < 32

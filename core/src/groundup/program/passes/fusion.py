"""Elementwise fusion: what only one elementwise op reads is computed inside that op.

What is saved is memory: such a value is never written nor read, and a backend that prints the body
in its own language starts one kernel instead of several. Numbers become part of the body.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

import attrs

from groundup.layout import Layout
from groundup.ops.fusion import MAX_INPUTS, MAX_STEPS, Fused, Place, Step, is_fusible
from groundup.program.passes.dead_code import remove_dead_code
from groundup.program.passes.identities import constant
from groundup.program.passes.lifetimes import Lifetimes
from groundup.program.program import Node, Program, Value
from groundup.program.views import StridedView
from groundup.shapes import Shape, reshape_strides

_SMALL: Final = 1 << 16  # bytes that are no reason against it
_NEAR: Final = 8  # nodes for which the inputs of a body may have to wait, whatever they weigh


def fuse_elementwise(program: Program) -> Program:
    """Elementwise ops that feed only each other as one `fused` op, also through reshapes.

    On the cpu its results are the same to the bit; elsewhere values inside a body may keep digits
    that memory would have cut off. An op moves to its last reader unless the body would grow too
    large, more memory would be alive in between, or it rounds to a narrower float.
    """
    return remove_dead_code(_Fusion(program).run())


class _Fusion:
    """From the last node to the first: each takes in what feeds it, if none has taken it yet."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes = program.nodes
        self.lives = Lifetimes(program)
        self.taken: set[int] = set()

    def run(self) -> Program:
        made: dict[int, list[Node]] = {}
        for time in reversed(range(len(self.nodes))):
            if time in self.taken or not _is_elementwise(self.nodes[time]):
                continue
            members = self._members(time)
            if len(members) > 1:
                self.taken.update(members)
                made[time] = self._fused(members)
        nodes = [new for i, old in enumerate(self.nodes) for new in made.get(i, [old])]
        return attrs.evolve(self.program, nodes=tuple(nodes))

    def _members(self, root: int) -> list[int]:
        """The nodes that are computed in the one at `root`, in order, itself among them."""
        members, shape = {root}, self.nodes[root].outputs[0].layout.shape
        waiting = self._feeding(root)
        while waiting:
            time = -heapq.heappop(waiting)  # the latest first: its readers are decided on
            if time in members or time in self.taken or not self._may_join(time, members):
                continue
            together = members | {time}
            inputs = self._inputs(together, shape)
            if inputs is not None and self._may_wait(together, inputs, root):
                members = together
                waiting = [*waiting, *self._feeding(time)]
                heapq.heapify(waiting)
        return sorted(members)

    def _feeding(self, reader: int) -> list[int]:
        """When the inputs of a node are made, negative; of a reshape, what it shows."""
        sources = [self.lives.source(value) for value in self.nodes[reader].inputs]
        found = [-self.lives.made[value] for value in sources if value in self.lives.made]
        heapq.heapify(found)
        return found

    def _may_join(self, time: int, members: set[int]) -> bool:
        node = self.nodes[time]
        if len(members) == MAX_STEPS or not _is_elementwise(node) or _narrows(node):
            return False
        return self.lives.readers_in_any_shape(node.outputs[0]) <= members

    def _may_wait(self, members: set[int], inputs: Sequence[Value], root: int) -> bool:
        """Whether the inputs may live until `root`: it takes no more memory than the members'
        results would meanwhile, give or take half a result, but for the last few nodes.
        """
        if any(self.lives.outlives(value, root) for value in inputs):
            return False
        room = max(_SMALL, self.nodes[root].outputs[0].spec.nbytes // 2)
        kept = {v: self.lives.dies(v) + 1 for v in inputs if self.lives.dies(v) + 1 < root - _NEAR}
        inside = {out: i for i in members for out in self.nodes[i].outputs}
        until = {
            value: max(self.lives.readers_in_any_shape(value))
            for value in inside
            if inside[value] != root
        }
        for time in (*kept.values(), *[last + 1 for last in until.values()]):
            extra = sum(
                self.lives.root(v).spec.nbytes for v, start in kept.items() if start <= time
            )
            saved = sum(
                value.spec.nbytes for value, last in until.items() if inside[value] <= time <= last
            )
            if extra > saved + room and time < root:
                return False
        return True

    def _inputs(self, members: set[int], shape: Shape) -> list[Value] | None:
        """What members read from outside; None if it is too much, or cannot have that shape."""
        inside = {out for i in members for out in self.nodes[i].outputs}
        found: dict[Value, None] = {}
        for i in sorted(members):
            for place, value in enumerate(self.nodes[i].inputs):
                if (
                    self.lives.source(value) in inside
                    or self._number(self.nodes[i], place) is not None
                ):
                    continue
                if _in_shape(value.layout, shape) is None:
                    return None
                found[value] = None
        return list(found) if len(found) <= MAX_INPUTS else None

    def _number(self, node: Node, place: int) -> bool | int | float | None:
        """The number that an operand is, if a body can say so: beside an array of its dtype."""
        others = [i for i in node.op.promotes if i != place]
        if place not in node.op.promotes or not others:
            return None
        if all(constant(node.inputs[i], self.lives.producers) is not None for i in others):
            return None
        return constant(node.inputs[place], self.lives.producers)

    def _fused(self, members: Sequence[int]) -> list[Node]:
        """One op for all members, behind the views that it needs."""
        last = self.nodes[members[-1]]
        (out,) = last.outputs
        inputs = self._inputs(set(members), out.layout.shape) or []
        inputs.sort(key=lambda value: not self._gives_memory(value, out, members[-1]))
        in_place = bool(inputs) and self._gives_memory(inputs[0], out, members[-1])
        op = Fused(body=tuple(s.record() for s in self._steps(members, inputs)), in_place=in_place)
        views = [_reshape(v, out.layout.shape) for v in inputs if v.layout.shape != out.spec.shape]
        shown = {view.inputs[0]: view.outputs[0] for view in views}
        given = tuple(shown.get(value, value) for value in inputs)
        return [*views, Node(op, given, (out,), last.scope, last.lane)]

    def _steps(self, members: Sequence[int], inputs: Sequence[Value]) -> list[Step]:
        """The members as steps; copies of one node are one step again."""
        places: dict[Value, Place] = {value: i for i, value in enumerate(inputs)}
        steps: dict[object, tuple[Step, Place]] = {}
        for i in members:
            node = self.nodes[i]
            own: list[Place] = []
            for place, value in enumerate(node.inputs):
                known = places.get(value, places.get(self.lives.source(value)))
                number = self._number(node, place)
                assert known is not None or number is not None
                own.append((number,) if known is None else known)  # type: ignore[arg-type]
            key = (node.op, repr(own))  # as texts, for 0.0 equals -0.0
            _, known_as = steps.setdefault(key, (Step(node.op, tuple(own)), ~len(steps)))
            places[node.outputs[0]] = known_as
        return [step for step, _ in steps.values()]

    def _gives_memory(self, value: Value, out: Value, time: int) -> bool:
        """Whether the result may lie where an input does, which nobody reads afterwards."""
        if value.layout is not out.layout or self.lives.root(value) is not value:
            return False
        free = (
            self.lives.last_read(value)
            if self.lives.new.get(value) is out
            else self.lives.dies(value)
        )
        return free <= time


def _is_elementwise(node: Node) -> bool:
    return is_fusible(type(node.op)) and node.outputs[0].layout.is_row_major


def _in_shape(layout: Layout, shape: Shape) -> Shape | None:
    """Strides of a view of that shape, None where only a copy can have it."""
    if layout.shape == shape:
        return layout.strides
    return reshape_strides(layout.shape, layout.strides, shape)


def _reshape(value: Value, shape: Shape) -> Node:
    strides = _in_shape(value.layout, shape)
    assert strides is not None
    view = Value(Layout(shape, strides, value.layout.dtype))
    return Node(StridedView(shape=shape, strides=strides), (value,), (view,))


def _narrows(node: Node) -> bool:
    """Whether it rounds on purpose: a backend that keeps more digits in a body would not."""
    dtype = node.outputs[0].spec.dtype
    return node.op.name == "cast" and dtype.is_floating and dtype.bits < 32

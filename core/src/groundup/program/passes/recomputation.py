"""Recomputation: a value that is cheap to make is made again where it is read, and not kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from groundup.ops.fusion import is_fusible
from groundup.program.passes.dead_code import remove_dead_code
from groundup.program.passes.lifetimes import Lifetimes
from groundup.program.program import Node, Program, Value

_FAR: Final = 16  # nodes between two readers for which a value is not kept
_NEAR: Final = 8  # nodes for which its inputs may be kept instead
_MOST: Final = 4  # readers that make a value for themselves


def recompute_cheap_values(program: Program) -> Program:
    """Sums, products, comparisons and the like for each elementwise reader anew, if what they are
    made of is there anyway.

    Fusion then takes each copy into its reader, so that it costs neither a launch nor memory. That
    is done where all readers are elementwise, else for those that come long after the others.
    """
    lifetimes = Lifetimes(program)
    copies: dict[int, list[Node]] = {}  # before the node at that time
    instead: dict[int, dict[Value, Value]] = {}
    doubled: set[Value] = set()
    for time, node in enumerate(program.nodes):
        if not _is_cheap(node) or not doubled.isdisjoint(node.inputs):
            continue  # copies of copies would grow without end
        (out,) = node.outputs
        for reader in _readers_for_themselves(lifetimes, node, time):
            copy = Value(out.layout)
            copies.setdefault(reader, []).append(attrs.evolve(node, outputs=(copy,)))
            instead.setdefault(reader, {})[out] = copy
            doubled.add(out)
    nodes: list[Node] = []
    for time, node in enumerate(program.nodes):
        stands = instead.get(time, {})
        inputs = tuple(stands.get(value, value) for value in node.inputs)
        nodes += [*copies.get(time, ()), attrs.evolve(node, inputs=inputs) if stands else node]
    return remove_dead_code(attrs.evolve(program, nodes=tuple(nodes)))


def _readers_for_themselves(lifetimes: Lifetimes, node: Node, time: int) -> Sequence[int]:
    """The readers of a node's result that should make it anew: the last ones, or all."""
    readers = sorted(lifetimes.readers.get(node.outputs[0], ()))
    able: list[int] = []
    while readers and _could_make(lifetimes, node, readers[-1]):
        able.insert(0, readers.pop())
    if not able or len(able) > _MOST:
        return ()
    if not readers:
        return able if len(able) > 1 else ()  # fusion moves the node to its only reader
    return able if able[0] - max(readers[-1], time) > _FAR else ()


def _could_make(lifetimes: Lifetimes, node: Node, reader: int) -> bool:
    """Whether a reader can take the node in, whose inputs are still there, or nearly so."""
    if reader == lifetimes.end or not is_fusible(type(lifetimes.nodes[reader].op)):
        return False
    return all(
        lifetimes.dies(value) >= reader - _NEAR and not lifetimes.outlives(value, reader)
        for value in node.inputs
    )


def _is_cheap(node: Node) -> bool:
    """Elementwise, without a function that takes long, and without a cast that fusion leaves."""
    if not is_fusible(type(node.op)) or node.op.accuracy.kind not in ("exact", "rounded"):
        return False
    dtype = node.outputs[0].spec.dtype
    return not (node.op.name == "cast" and dtype.is_floating and dtype.bits < 32)

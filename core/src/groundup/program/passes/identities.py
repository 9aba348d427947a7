"""Identities that hold for every float, bit for bit; those that do only nearly are not here.

x + 0 is not among them for floats (-0.0 + 0.0 is 0.0), nor is x * 0 (NaN), nor any reordering.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from groundup.ops.activation import Relu
from groundup.ops.arithmetic import Add, Div, Mul, Pow, Sub
from groundup.ops.creation import Full
from groundup.ops.elementwise import Abs, Neg
from groundup.ops.op import Op
from groundup.ops.rounding import Cast, Ceil, Floor, Round
from groundup.ops.selection import Where
from groundup.program.passes.rewriting import rewrite
from groundup.program.program import Node, Program, Value


def apply_identities(program: Program) -> Program:
    """x * 1, x / 1, x ** 1, x - 0, x + -0.0, integers' x + 0, -(-x), cast to the same dtype, where
    with equal branches, and ops that do nothing twice (abs, relu, floor, ceil, round)."""
    return rewrite(program, _rule)


def _rule(node: Node, producers: dict[Value, Node]) -> Sequence[Value] | None:
    rule = _RULES.get(type(node.op))
    found = None if rule is None else rule(node, producers)
    # Of another layout, it would reach kernels that add up in another order.
    if found is None or found.layout is not node.outputs[0].layout:
        return None
    return (found,)


Producers = Mapping[Value, Node]


def constant(value: Value, producers: Producers) -> bool | int | float | None:
    """The one number that all elements are, through views; None if that is not known."""
    node = producers.get(value)
    while node is not None and node.is_view:
        node = producers.get(node.inputs[0])
    if node is not None and isinstance(node.op, Full):
        return node.op.value
    return None


def _neutral(at: Sequence[int], *numbers: float) -> Callable[[Node, Producers], Value | None]:
    """The other operand, where the one at a place in `at` is one of `numbers`."""

    def rule(node: Node, producers: Producers) -> Value | None:
        for place in at:
            known = constant(node.inputs[place], producers)
            if known is not None and any(_same(known, number) for number in numbers):
                return node.inputs[1 - place]
        return None

    return rule


def _same(known: bool | int | float, number: float) -> bool:
    """Equal, and zeros of one sign."""
    return struct.pack("<d", float(known)) == struct.pack("<d", number)


def _add(node: Node, producers: Producers) -> Value | None:
    zero = -0.0 if node.outputs[0].spec.dtype.is_floating else 0.0
    return _neutral((0, 1), zero)(node, producers)


def _sub(node: Node, producers: Producers) -> Value | None:
    """-0.0 - 0.0 is -0.0, so 0.0 is neutral here; x - -0.0 would turn -0.0 into 0.0."""
    return _neutral((1,), 0.0)(node, producers)


def _cast(node: Node, _: Producers) -> Value | None:
    return node.inputs[0]  # kept only if the dtype is the same: `_rule` compares the layouts


def _where(node: Node, _: Producers) -> Value | None:
    return node.inputs[1] if node.inputs[1] is node.inputs[2] else None


def _undone(node: Node, producers: Producers) -> Value | None:
    inner = producers.get(node.inputs[0])
    return inner.inputs[0] if inner is not None and inner.op is node.op else None


def _once(node: Node, producers: Producers) -> Value | None:
    inner = producers.get(node.inputs[0])
    return node.inputs[0] if inner is not None and inner.op is node.op else None


_RULES: Final[Mapping[type[Op], Callable[[Node, Any], Value | None]]] = {
    Mul: _neutral((0, 1), 1.0), Div: _neutral((1,), 1.0), Pow: _neutral((1,), 1.0),
    Add: _add, Sub: _sub, Neg: _undone, Cast: _cast, Where: _where,
    Abs: _once, Relu: _once, Floor: _once, Ceil: _once, Round: _once,
}  # fmt: skip

"""Common subexpressions: the same op on the same values is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from groundup.program.passes.rewriting import rewrite
from groundup.program.program import Node, Program, Value


def merge_subexpressions(program: Program) -> Program:
    """One node for each op and its inputs. Ops are interned, so equal ones are the same object.

    What the backward pass computes is not merged with what the forward pass did: it is computed
    again because somebody asked for it (`checkpoint`), and the first result need not be kept. Ops
    marked `ordered` (collectives) act on the world: none of them is merged.
    """
    seen: dict[Any, Node] = {}

    def rule(node: Node, _: dict[Value, Node]) -> Sequence[Value] | None:
        if getattr(node.op, "ordered", False):
            return None
        again = node.lane == "backward" and bool(node.inputs) and not node.is_view
        first = seen.setdefault((node.op, node.inputs, again), node)
        return None if first is node else first.outputs

    return rewrite(program, rule)

"""Constants: what depends on nothing is computed once, when the program is bound."""

from __future__ import annotations

from typing import Final

import attrs

from groundup.program.program import Node, Program, Value

_LARGEST: Final = 1 << 16  # bytes of a constant that is worth its own memory for good


def move_to_setup(program: Program) -> Program:
    """Nodes whose inputs are constants, themselves constants then, move to the setup.

    Constants keep their memory between runs and nothing may be computed in their place, so large
    ones stay where they are: filling 64 KiB takes less than a kernel's start on most devices.
    """
    constant: set[Value] = {out for node in program.setup for out in node.outputs}
    setup, nodes = list(program.setup), []
    for node in program.nodes:
        if constant.issuperset(node.inputs) and _is_small(node):
            setup.append(node)
            constant.update(node.outputs)
        else:
            nodes.append(node)
    return attrs.evolve(program, setup=tuple(setup), nodes=tuple(nodes))


def _is_small(node: Node) -> bool:
    if getattr(node.op, "ordered", False):
        return False
    return node.is_view or sum(out.spec.nbytes for out in node.outputs) <= _LARGEST

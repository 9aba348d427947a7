"""Dead code: nodes whose outputs nobody reads."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from groundup.program.program import Node, Program, Value


def remove_dead_code(program: Program) -> Program:
    """Without nodes that no result depends on, and without captured values that nobody needs."""
    effects = tuple(e for e in program.effects if e.target is not e.value)
    wanted = {*program.outputs, *[effect.value for effect in effects]}
    nodes = _needed(program.nodes, wanted)
    setup = _needed(program.setup, wanted)
    targets = {effect.target for effect in effects}
    captured = tuple(value for value in program.captured if value in wanted or value in targets)
    return attrs.evolve(program, nodes=nodes, setup=setup, captured=captured, effects=effects)


def _needed(nodes: Sequence[Node], wanted: set[Value]) -> tuple[Node, ...]:
    """Those that make a wanted value; what they read is wanted too from then on."""
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            wanted.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))

"""What passes share: going through a program while some of its values stand for others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from groundup.program.program import Effect, Node, Program, Value


class Rewriter:
    """Values that stand for others. Nodes, outputs and effects are rewritten through it."""

    def __init__(self) -> None:
        self._stands: dict[Value, Value] = {}

    def replace(self, old: Value, new: Value) -> None:
        """From now on, whoever reads `old` reads `new`.

        Their layouts must be the same: views of `old` go by it, and kernels add up in its order.
        """
        assert new.layout is old.layout, f"{new!r} cannot stand for {old!r}"
        self._stands[old] = self.value(new)

    def value(self, value: Value) -> Value:
        """What stands for `value` now."""
        return self._stands.get(value, value)

    def node(self, node: Node) -> Node:
        """The node with its inputs rewritten; itself if none changed."""
        inputs = tuple(map(self.value, node.inputs))
        return node if inputs == node.inputs else attrs.evolve(node, inputs=inputs)

    def program(
        self, program: Program, nodes: Iterable[Node], setup: Iterable[Node] | None = None
    ) -> Program:
        """`program` with these nodes, and its results rewritten."""
        effects = tuple(Effect(e.target, self.value(e.value)) for e in program.effects)
        return attrs.evolve(
            program,
            nodes=tuple(nodes),
            setup=program.setup if setup is None else tuple(setup),
            outputs=tuple(map(self.value, program.outputs)),
            effects=effects,
        )


Rule = Callable[[Node, dict[Value, Node]], Sequence[Value] | None]


def rewrite(program: Program, rule: Rule) -> Program:
    """Drop each node for which `rule(node, producers)` gives values: they stand for its outputs.

    The rule sees nodes whose inputs are rewritten already, in order; `producers` are the nodes so
    far. It returns None to keep a node.
    """
    rewriter = Rewriter()
    producers: dict[Value, Node] = {}

    def walk(nodes: Iterable[Node]) -> list[Node]:
        kept = []
        for original in nodes:
            node = rewriter.node(original)
            values = rule(node, producers)
            if values is None:
                kept.append(node)
                producers.update(dict.fromkeys(node.outputs, node))
            else:
                for old, new in zip(node.outputs, values, strict=True):
                    rewriter.replace(old, new)
        return kept

    setup, nodes = walk(program.setup), walk(program.nodes)
    return rewriter.program(program, nodes, setup)

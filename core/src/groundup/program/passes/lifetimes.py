"""Who reads a value, and until when its memory is needed: what passes that move work must know."""

from __future__ import annotations

from groundup.program.program import Node, Program, Value
from groundup.program.views import StridedView


class Lifetimes:
    """Of a program as it is. Times are the places of its nodes; its end is that of results."""

    def __init__(self, program: Program) -> None:
        self.nodes = program.nodes
        self.end = len(program.nodes)
        self.inputs = frozenset(program.inputs)
        self.producers = program.producers()
        self.made = {v: i for i, node in enumerate(self.nodes) for v in node.outputs}
        self.readers: dict[Value, set[int]] = {}
        for i, node in enumerate(self.nodes):
            for value in node.inputs:
                self.readers.setdefault(value, set()).add(i)
        for value in program.results():
            self.readers.setdefault(value, set()).add(self.end)
        # Of state the value that follows, in the same memory unless the old one is read later.
        self.new = {effect.target: effect.value for effect in program.effects}

    def root(self, value: Value) -> Value:
        """The value whose memory it is."""
        view = self.producers.get(value)
        return self.root(view.inputs[0]) if view and view.is_view else value

    def source(self, value: Value) -> Value:
        """The value itself, or the one that it shows in another shape only."""
        view = self.producers.get(value)
        return view.inputs[0] if view is not None and is_reshape(view) else value

    def readers_in_any_shape(self, value: Value) -> set[int]:
        """Who reads a value, or all of it in another shape."""
        found: set[int] = set()
        for reader in self.readers.get(value, ()):
            node = self.nodes[reader] if reader < self.end else None
            if node is not None and is_reshape(node):
                found |= self.readers_in_any_shape(node.outputs[0])
            else:
                found.add(reader)
        return found

    def last_read(self, value: Value) -> int:
        """When the memory of a value is read for the last time, -1 if never."""
        return self._read_below(self.root(value))

    def _read_below(self, value: Value) -> int:
        """When a value, or a view of it, is read for the last time."""
        found = -1
        for reader in self.readers.get(value, ()):
            node = self.nodes[reader] if reader < self.end else None
            shown = node.outputs[0] if node is not None and node.is_view else None
            found = max(found, reader if shown is None else self._read_below(shown))
        return found

    def dies(self, value: Value) -> int:
        """When the memory of a value is free: at the end if it is captured or a constant."""
        base = self.root(value)
        lasting = base not in self.made and base not in self.inputs
        return self.end if lasting else self.last_read(base)

    def outlives(self, value: Value, time: int) -> bool:
        """Whether reading state at `time` is too late for its new value to lie in its memory."""
        state = self.root(value)
        new = self.made.get(self.new[state], -1) if state in self.new else time
        return self.last_read(state) <= new < time


def is_reshape(node: Node) -> bool:
    """Whether a node shows all elements of a row-major value in their order."""
    op = node.op
    if not isinstance(op, StridedView):
        return False
    base, shown = node.inputs[0].layout, node.outputs[0].layout
    return op.offset == 0 and base.is_row_major and shown.is_row_major and base.size == shown.size

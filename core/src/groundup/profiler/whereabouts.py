"""Where a thread is: on which lane, and in which module. Profiles and traces both follow it."""

from __future__ import annotations

from typing import Any, Final

from groundup.spans import LANES

OTHER: Final = "other"  # the lane of what is on no other
_FREE: Final = (OTHER, "forward")  # lanes that a span may take over


class Whereabouts:
    """`lane` and `module` now; `kinds` is the class of the module with a path.

    `enter` and `leave` keep what was before; what is told in between holds until `leave`.
    """

    def __init__(self) -> None:
        self.lane = OTHER
        self.module = ""
        self.kinds: dict[str, str] = {}
        self._before: list[tuple[str, str]] = []
        self._roots: list[Any] = []  # kept, since paths go by identity
        self._paths: dict[int, str] = {}
        self._made_in: dict[int, str] = {}  # graph node -> module

    def enter(self) -> None:
        """Something begins."""
        self._before.append((self.lane, self.module))

    def leave(self) -> None:
        """What began last has ended."""
        self.lane, self.module = self._before.pop()

    def span(self, kind: str, name: str) -> None:
        """A span: the outermost that names a lane says which it is."""
        if kind == "span" and name in LANES and self.lane in _FREE:
            self.lane = name

    def call(self, module: Any) -> None:
        """A module is called."""
        self.module = self.path(module)
        if self.lane == OTHER:
            self.lane = "forward"

    def gradient_of(self, node: Any) -> None:
        """What follows is the gradient of a graph node, and belongs to the module that made it."""
        self.module = self._made_in.get(node.sequence, "")

    def made(self, results: Any) -> bool:
        """The graph nodes of these results are made here; whether there are any."""
        found = False
        for t in results if isinstance(results, tuple) else (results,):
            node = t._node
            if node is not None and node.sequence:  # not a leaf
                self._made_in[node.sequence] = self.module
                found = True
        return found

    def path(self, module: Any) -> str:
        """From the outermost module that was called, as `named_modules` has it; its own class's
        name for that one itself.
        """
        found = self._paths.get(id(module))
        if found is None:
            self._learn(module)
            found = self._paths[id(module)]
        return found

    def _learn(self, root: Any) -> None:
        """Name a module that nobody has named yet, and all below it."""
        kind = type(root).__name__
        prefix = f"{kind}." if self._roots else ""
        self._roots.append(root)
        for path, module in root.named_modules():
            name = self._paths.setdefault(id(module), f"{prefix}{path}" if path else kind)
            self.kinds.setdefault(name, type(module).__name__)


class Follower:
    """A recorder that keeps no events: it only knows where the thread is."""

    def __init__(self) -> None:
        self.here = Whereabouts()

    def begin(self, kind: str, name: str) -> None:
        """A span begins; see `groundup.spans`."""
        self.here.enter()
        self.here.span(kind, name)

    def begin_module(self, module: Any) -> None:
        """A module is called."""
        self.here.enter()
        self.here.call(module)

    def begin_update(self, op: Any, inputs: Any) -> None:
        """An op runs in place."""
        self.here.enter()

    def begin_launch(self, node: Any, device: Any) -> None:
        """A launch of another compiled program."""
        self.here.enter()

    def at(self, node: Any) -> None:
        """What follows is the gradient of this graph node."""
        self.here.gradient_of(node)

    def end(self) -> None:
        """What began last has ended."""
        self.here.leave()

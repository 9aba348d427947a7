"""Program: a step as data. Values are made once and never change; nodes say how, in order.

    inputs    %0 x: float32[2, 3]
    captured  %1 weight: float32[3]
    setup
      %2: float32[] = full(shape=(), value=0.5, dtype=groundup.float32)
    nodes
      %3: float32[2, 3] strides (0, 0) = view(%2)
      %4: float32[2, 3] = mul(%0, %3)
    outputs   %4
    effects   %1 <- %5

Captured values are memory that outlives a run: parameters, optimizer state, random states. Nodes
read what they held before the run; an effect says what such memory holds afterwards. So a program
is a pure function, and passes need not think about the order of writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from groundup.errors import DTypeError, ProgramError, ShapeError
from groundup.layout import Layout, Spec
from groundup.ops.lower import adjustments
from groundup.ops.op import Op
from groundup.program.views import PutView, StridedView


class Value:
    """One array of a program. It is itself: two values of one layout are two arrays.

    Row-major, but for views and for captured memory that came with strides.
    """

    __slots__ = ("layout",)

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @property
    def spec(self) -> Spec:
        """Shape and dtype."""
        return self.layout.spec

    def __repr__(self) -> str:
        return f"Value({self.layout!r})"


@attrs.frozen(eq=False)
class Node:
    """`outputs = op(*inputs)`.

    `scope` is the path of the module that it came from, `lane` says whether it is of the forward
    or backward pass or of the optimizer (a name in `spans.LANES`); either may be "".
    """

    op: Op
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    scope: str = ""
    lane: str = ""

    @property
    def is_view(self) -> bool:
        """Whether it moves no data: its output is a window on its input."""
        return type(self.op) is StridedView


@attrs.frozen(eq=False)
class Effect:
    """After the run, the memory of the captured value `target` holds `value`."""

    target: Value
    value: Value


@attrs.frozen(eq=False)
class Program:
    """A pure function of `inputs` and `captured`, as a list of nodes.

    `setup` holds nodes that depend on nothing: they run once, when the program is bound. `nodes`
    run every time. Every value is defined once, before it is used; each captured value is the
    target of one effect at most. Change one by `attrs.evolve`, never in place.
    """

    inputs: tuple[Value, ...]
    captured: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    effects: tuple[Effect, ...] = ()
    setup: tuple[Node, ...] = ()
    names: Mapping[Value, str] = attrs.field(factory=dict)  # of inputs and captured values

    def results(self) -> tuple[Value, ...]:
        """What must be there at the end: outputs, and the values of effects."""
        return (*self.outputs, *[effect.value for effect in self.effects])

    def producers(self) -> dict[Value, Node]:
        """The node that makes each value which is neither an input nor captured."""
        return {out: node for node in (*self.setup, *self.nodes) for out in node.outputs}

    def uses(self) -> dict[Value, int]:
        """How often each value is read, by nodes and as a result."""
        counts: dict[Value, int] = {}
        for node in (*self.setup, *self.nodes):
            for value in node.inputs:
                counts[value] = counts.get(value, 0) + 1
        for value in self.results():
            counts[value] = counts.get(value, 0) + 1
        return counts

    def launches(self) -> int:
        """How many nodes run a kernel each time: all but views."""
        return sum(not node.is_view for node in self.nodes)

    def __str__(self) -> str:
        return "\n".join(_listing(self))


# ---- printing ----


def numbering(program: Program) -> dict[Value, str]:
    """The name of every value in the listing: "%0", "%1", ... in order of definition."""
    values = [*program.inputs, *program.captured]
    for node in (*program.setup, *program.nodes):
        values += node.outputs
    return {value: f"%{i}" for i, value in enumerate(values)}


def _listing(program: Program) -> Iterator[str]:
    names = numbering(program)
    for title, values in (("inputs", program.inputs), ("captured", program.captured)):
        yield from _declared(title, values, program.names, names)
    for title, nodes in (("setup", program.setup), ("nodes", program.nodes)):
        if nodes:
            yield title
        for node in nodes:
            made = ", ".join(f"{names[out]}: {out.layout!r}" for out in node.outputs)
            yield f"  {made} = {_call(node, names)}"
    if program.outputs:
        yield f"outputs   {', '.join(names[value] for value in program.outputs)}"
    for effect in program.effects:
        yield f"effects   {names[effect.target]} <- {names[effect.value]}"


def _declared(
    title: str, values: Sequence[Value], known: Mapping[Value, str], names: Mapping[Value, str]
) -> Iterator[str]:
    for value in values:
        name = f" {known[value]}" if value in known else ""
        yield f"{title:<9} {names[value]}{name}: {value.layout!r}"


def _call(node: Node, names: Mapping[Value, str]) -> str:
    op = node.op
    arguments = [names.get(value, "?") for value in node.inputs]
    arguments += [f"{name}={getattr(op, name)!r}" for name in op.fields if name not in _IMPLIED]
    where = f"  # {node.scope}" if node.scope else ""
    return f"{getattr(op, 'title', op.name)}({', '.join(arguments)}){where}"


# The listing shows strides with the value's shape, and a fused body before its inputs.
_IMPLIED: Final = frozenset({"strides", "body", "in_place"})


# ---- verification ----


def verify(program: Program) -> Program:
    """The program itself, found to be in order. Raises ProgramError that shows the first fault."""
    names = numbering(program)
    defined: set[Value] = set()
    _declare((*program.inputs, *program.captured), defined, names, "twice among the inputs")
    outside = frozenset(defined)
    for node in program.setup:
        if not outside.isdisjoint(node.inputs):
            raise ProgramError(f"setup depends on inputs or captured values: {_call(node, names)}")
        _check(node, defined, names)
    for node in program.nodes:
        _check(node, defined, names)
    for value in program.results():
        if value not in defined:
            raise ProgramError(f"a result {value.layout!r} is never made")
    _check_effects(program, names)
    return program


def _declare(
    values: Sequence[Value], defined: set[Value], names: Mapping[Value, str], problem: str
) -> None:
    for value in values:
        if value in defined:
            raise ProgramError(f"{names[value]} is defined twice: {problem}")
        defined.add(value)


def _check(node: Node, defined: set[Value], names: Mapping[Value, str]) -> None:
    call = _call(node, names)
    for value in node.inputs:
        if value not in defined:
            raise ProgramError(f"a value is used before it is made: {call}")
    _declare(node.outputs, defined, names, call)
    given = [value.spec for value in node.inputs]
    try:
        if node.op.broadcasts and adjustments(node.op, given) is not None:
            raise ProgramError(f"{call} wants equal shapes and dtypes, got {given}")
        specs = node.op.infer_all(*given)
    except (ShapeError, DTypeError) as error:
        raise ProgramError(f"{call} is refused: {error}") from error
    made = tuple(value.spec for value in node.outputs)
    if specs != made:
        raise ProgramError(f"{call} makes {specs}, the program says {made}")
    strided = not all(value.layout.is_row_major for value in node.outputs)
    if strided and type(node.op) not in (StridedView, PutView):
        raise ProgramError(f"{call}: only views have strides")
    if type(node.op) in (StridedView, PutView):
        node.op.check_bounds(node.inputs[0].layout)  # type: ignore[attr-defined]


def _check_effects(program: Program, names: Mapping[Value, str]) -> None:
    captured, seen = set(program.captured), set()
    for effect in program.effects:
        if effect.target not in captured or effect.target in seen:
            raise ProgramError(f"effects: {names.get(effect.target)} is no target, or twice")
        if effect.target.spec is not effect.value.spec:
            raise ProgramError(f"effects: {effect.value.spec} cannot fill {effect.target.spec}")
        seen.add(effect.target)

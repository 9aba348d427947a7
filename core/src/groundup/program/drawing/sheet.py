"""What a picture of a program shows, before it has coordinates: lines, boxes around them, edges.

Time runs downward: a line for each node that computes something, in the order in which they run.
Views move no data and have no line; who reads a view is joined to what the view shows. Nodes of one
module that follow each other stand in a box, in the boxes of the modules around it; the forward
pass, the backward pass and the optimizer have headings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import attrs

from groundup.ops.op import Cost
from groundup.program.executable import Executable
from groundup.program.plan import Plan, bases
from groundup.program.program import Node, Program, Value


@attrs.frozen(eq=False)
class Line:
    """One line: a node, or the heading of a lane or of a box (then `node` is None)."""

    text: str
    lane: str
    depth: int  # how many boxes are around it
    node: Node | None = None
    live: int = 0  # bytes in use while it runs
    where: str = ""  # what is left of the module's path inside of the boxes


@attrs.frozen
class Box:
    """The lines from `first` to `last` belong to one module; `first` is its heading."""

    label: str
    depth: int
    first: int
    last: int


@attrs.frozen
class Edge:
    """Line `target` reads what line `source` made."""

    source: int
    target: int


@attrs.frozen(eq=False)
class Sheet:
    """The picture of one program. `names` are those of its inputs and of what it captured."""

    title: str
    program: Program
    plan: Plan
    lines: Sequence[Line]
    boxes: Sequence[Box]
    edges: Sequence[Edge]


def sheet_of(title: str, executable: Executable) -> Sheet:
    """What to draw of a program that is bound to a device, or to `null`."""
    program, plan = executable.program, executable.plan
    lines: list[Line] = []
    boxes: list[Box] = []
    steps = [(n, live) for n, live in zip(program.nodes, plan.live, strict=True) if not n.is_view]
    for lane, group in groupby(steps, lambda step: step[0].lane):
        lines.append(Line(lane or "program", lane, 0))
        _write(list(group), (), lines, boxes)
    return Sheet(title, program, plan, lines, boxes, list(_edges(program, lines)))


def cost_of(node: Node) -> Cost:
    """The least that the node could do: flops, and bytes to move."""
    return node.op.cost(*[value.spec for value in node.inputs])


def title_of(node: Node) -> str:
    """The op's name; of fused ops what they compute."""
    return str(getattr(node.op, "title", node.op.name))


def segments(scope: str) -> tuple[str, ...]:
    """("h.0", "attn") for "h.0.attn": the number of a layer belongs to its list."""
    found: list[str] = []
    for part in scope.split(".") if scope else ():
        if part.isdigit() and found and not found[-1][-1].isdigit():
            found[-1] = f"{found[-1]}.{part}"
        else:
            found.append(part)
    return tuple(found)


def _write(
    steps: Sequence[tuple[Node, int]],
    around: tuple[str, ...],
    lines: list[Line],
    boxes: list[Box],
) -> None:
    """Lines for nodes inside the boxes of the modules `around`; a box for two nodes or more."""
    depth = len(around)

    def inner(step: tuple[Node, int]) -> str:
        parts = segments(step[0].scope)[depth:]
        return parts[0] if parts else ""

    for name, group in groupby(steps, inner):
        members = list(group)
        if name and len(members) > 1:
            first = len(lines)
            lines.append(Line(name, members[0][0].lane, depth + 1, live=members[0][1]))
            _write(members, (*around, name), lines, boxes)
            boxes.append(Box(name, depth + 1, first, len(lines) - 1))
            continue
        for node, live in members:
            where = ".".join(segments(node.scope)[depth:])
            lines.append(Line(title_of(node), node.lane, depth, node, live, where))


def _edges(program: Program, lines: Sequence[Line]) -> Iterator[Edge]:
    base = bases(program)
    makers: dict[Value, int] = {}
    for number, line in enumerate(lines):
        if line.node is None:
            continue
        read = [base[v][0] if v in base else v for v in line.node.inputs]
        for source in sorted({makers[value] for value in read if value in makers}):
            yield Edge(source, number)
        makers.update(dict.fromkeys(line.node.outputs, number))


def named_inputs(node: Node, sheet: Sheet, base: Mapping[Value, tuple[Value, int]]) -> list[str]:
    """Names of the parameters, states and inputs that a node reads, short inside their module."""
    found = []
    for value in node.inputs:
        name = sheet.program.names.get(base[value][0] if value in base else value)
        if name is not None:
            found.append(name.removeprefix(f"{node.scope}.") if node.scope else name)
    return found

"""Pictures of programs as SVG: no library, some two hundred lines, readable in any browser.

From left to right: curves from what makes a value to what reads it; the nodes in the boxes of
their modules, with shapes and flops; the memory in use while each of them runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import sqrt
from typing import Final
from xml.sax.saxutils import escape, quoteattr

import attrs

from groundup.program.drawing.sheet import Line, Sheet, cost_of, named_inputs
from groundup.program.plan import bases
from groundup.program.program import Node
from groundup.units import in_bytes, scaled

WIDTH: Final = 1240
_ROW: Final = 18  # height of a line
_INDENT: Final = 11  # of a box within a box
_LEFT, _SHAPE, _FLOPS, _MEMORY, _RIGHT = 120, 585, 850, 880, WIDTH - 20  # columns
_CHART: Final = 110  # height of the overview
_LETTER: Final = 6.6  # width of a character, about
_COLOURS: Final = {"forward": "#3b6fb6", "backward": "#c8651b", "optimizer": "#3d8b4f"}
_GREY: Final = "#6b7280"
_STYLE: Final = """
text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #1f2937 }
.title { font-size: 19px; font-weight: 600 } .lane { font-size: 14px; font-weight: 600 }
.dim, .dim text { fill: #6b7280 } .box { fill: #1f2937; fill-opacity: .035; stroke: #c3c8d0 }
.head { font-weight: 600; fill: #4b5563 } .edge { fill: none }
.hit { fill: transparent } .row:hover .hit { fill: #1f2937; fill-opacity: .08 }
.lit { stroke-opacity: 1; stroke-width: 2 } .area { fill-opacity: .3; stroke-width: 1 }
"""


def picture(sheets: Sequence[Sheet]) -> str:
    """One SVG of all programs, one under the other."""
    parts: list[str] = []
    top = 10
    for number, sheet in enumerate(sheets):
        drawn = _Drawing(sheet, top, number)
        parts += drawn.parts()
        top = drawn.bottom + 40
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" '
        f'width="{WIDTH}" height="{top}">'
    )
    ground = f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>'
    return "\n".join([head, f"<style>{_STYLE}</style>", ground, *parts, "</svg>\n"])


@attrs.define
class _Drawing:
    """One sheet, with coordinates."""

    sheet: Sheet
    top: int
    number: int  # among the sheets: lines of several need names of their own

    @property
    def _first(self) -> int:
        return self.top + _CHART + 100

    @property
    def bottom(self) -> int:
        """Where the last line ends."""
        return self._first + _ROW * len(self.sheet.lines)

    def _y(self, line: int) -> int:
        return self._first + _ROW * line

    def parts(self) -> Iterator[str]:
        yield from self._heading()
        yield from self._overview()
        yield from self._memory()
        yield from self._boxes()
        yield from self._edges()
        yield from self._lines()

    # ---- the whole, at the top ----

    def _heading(self) -> Iterator[str]:
        plan, program = self.sheet.plan, self.sheet.program
        yield _text(_LEFT, self.top + 22, self.sheet.title, "title")
        text = (
            f"{program.launches()} nodes that compute; memory planned "
            f"{in_bytes(plan.peak)}, largest live set {in_bytes(plan.largest_live_set)}, "
            f"all values {in_bytes(plan.sum_of_values)}"
        )
        yield _text(_LEFT, self.top + 42, text, "dim")

    def _overview(self) -> Iterator[str]:
        """Memory over time, from left to right."""
        steps = [line for line in self.sheet.lines if line.node is not None]
        high = max((line.live for line in steps), default=0)
        if not high:
            return
        foot, wide = self.top + 60 + _CHART, (_RIGHT - _LEFT) / len(steps)
        at = 0
        for lane, group in groupby(steps, lambda line: line.lane):
            members = list(group)
            corners = [(_LEFT + at * wide, float(foot))]
            for line in members:
                height = foot - _CHART * line.live / high
                corners += [(_LEFT + at * wide, height), (_LEFT + (at + 1) * wide, height)]
                at += 1
            yield _area([*corners, (_LEFT + at * wide, float(foot))], lane)
            name = lane or "program"
            if len(members) * wide > _LETTER * len(name):
                yield _text(corners[0][0] + 4, foot + 14, name, "dim")
        most = max(range(len(steps)), key=lambda i: steps[i].live)
        label = f"at most {in_bytes(high)}, in {_where(steps[most])}"
        place = _LEFT + (most + 0.5) * wide
        anchor = "end" if place > (_LEFT + _RIGHT) / 2 else "start"
        yield _text(place, foot - _CHART - 5, label, "dim", anchor)

    # ---- lines ----

    def _lines(self) -> Iterator[str]:
        base = bases(self.sheet.program)
        for number, line in enumerate(self.sheet.lines):
            y = self._y(number)
            if line.node is None:
                yield from self._headline(line, y)
                continue
            x = _LEFT + _INDENT * line.depth + 8
            names = ", ".join(named_inputs(line.node, self.sheet, base))
            left = f"{line.where}  " if line.where else ""
            room = int((_SHAPE - x) / _LETTER) - len(left) - 2
            title = _shortened(line.text, room)
            shown = escape(_shortened(names, room - len(title) - 1))
            flops = cost_of(line.node).flops
            yield (
                f'<g class="row" id="r{self.number}-{number}"><title>{escape(_tip(line))}</title>'
                f'<rect class="hit" x="{_LEFT}" y="{y}" width="{_RIGHT - _LEFT}" height="{_ROW}"/>'
                f'<circle cx="{x - 3}" cy="{y + 9}" r="3" fill="{_colour(line.lane)}"/>'
                f'<text x="{x + 5}" y="{y + 13}"><tspan class="dim">{escape(left)}</tspan>'
                f'{escape(title)} <tspan class="dim">{shown}</tspan></text>'
                f"{_text(_SHAPE, y + 13, _shapes(line.node))}"
                f"{_text(_FLOPS, y + 13, scaled(flops) if flops else '', 'dim', 'end')}</g>"
            )

    def _headline(self, line: Line, y: int) -> Iterator[str]:
        if line.depth:
            yield _text(_LEFT + _INDENT * line.depth, y + 13, line.text, "head")
            return
        yield f'<g fill="{_colour(line.lane)}">{_text(_LEFT, y + 13, line.text, "lane")}</g>'
        yield _text(_SHAPE, y + 13, "gives", "dim")
        yield _text(_FLOPS, y + 13, "flops", "dim", "end")
        yield _text(_MEMORY + 6, y + 13, "memory in use", "dim")

    def _boxes(self) -> Iterator[str]:
        for box in sorted(self.sheet.boxes, key=lambda box: box.depth):
            x, y = _LEFT + _INDENT * box.depth - 6, self._y(box.first) + 1
            height = self._y(box.last + 1) - y - 1
            wide = _FLOPS + 18 - 3 * box.depth - x
            yield f'<rect class="box" x="{x}" y="{y}" width="{wide}" height="{height}" rx="4"/>'

    def _edges(self) -> Iterator[str]:
        """The further, the wider the curve, so that short ones stay apart from long ones."""
        lines = self.sheet.lines
        for edge in self.sheet.edges:
            y, end = self._y(edge.source) + 9, self._y(edge.target) + 9
            x = _LEFT - 2
            far = sqrt(edge.target - edge.source)
            reach = x - min(x - 6, 8 + 7 * far) * 4 / 3
            colour = _colour(lines[edge.source].lane)
            ends = f"{self.number}-{edge.source} {self.number}-{edge.target}"
            yield (
                f'<path class="edge" data-ends="{ends}" stroke="{colour}" '
                f'stroke-opacity="{max(0.08, 0.6 / far):.2f}" '
                f'd="M{x} {y}C{reach:.0f} {y} {reach:.0f} {end} {x} {end}"/>'
            )

    def _memory(self) -> Iterator[str]:
        """The same line by line, to the right."""
        lines = self.sheet.lines
        high = max((line.live for line in lines), default=0)
        if not high:
            return
        for lane, group in groupby(enumerate(lines), lambda pair: pair[1].lane):
            members = list(group)
            corners = [(float(_MEMORY), float(self._y(members[0][0])))]
            for number, line in members:
                x = _MEMORY + (_RIGHT - _MEMORY) * line.live / high
                corners += [(x, self._y(number)), (x, self._y(number + 1))]
            yield _area([*corners, (float(_MEMORY), self._y(members[-1][0] + 1))], lane)


# ---- pieces ----


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    if not text:
        return ""
    more = f" class={quoteattr(kind)}" if kind else ""
    more += f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{more}>{escape(text)}</text>'


def _area(corners: Iterable[tuple[float, float]], lane: str) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    colour = _colour(lane)
    return f'<polygon class="area" fill="{colour}" stroke="{colour}" points="{points}"/>'


def _colour(lane: str) -> str:
    return _COLOURS.get(lane, _GREY)


def _shapes(node: Node) -> str:
    """ "float32[8, 256, 384]", and how many more results there are."""
    if not node.outputs:  # a copy into memory that outlives the run
        return ""
    first, more = repr(node.outputs[0].spec), len(node.outputs) - 1
    return f"{first} and {more} more" if more else first


def _shortened(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    return f"{text[: room - 1].rstrip(', ')}…" if room > 1 else ""


def _where(line: Line) -> str:
    scope = line.node.scope if line.node is not None else ""
    return f"{line.text} of {scope}" if scope else line.text


def _tip(line: Line) -> str:
    """What a browser shows when the pointer rests on a line."""
    assert line.node is not None
    node, cost = line.node, cost_of(line.node)
    given = ", ".join(repr(value.spec) for value in node.inputs)
    return "\n".join(
        [
            repr(node.op),
            f"of {given or 'nothing'}",
            f"in {node.scope or 'no module'}, {node.lane or 'on no lane'}",
            f"{scaled(cost.flops)}flop, {in_bytes(cost.bytes)} to move, "
            f"{in_bytes(line.live)} in use",
        ]
    )

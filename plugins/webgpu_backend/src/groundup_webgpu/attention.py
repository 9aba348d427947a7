"""Flash attention, forward and backward: tiles of queries against tiles of keys.

The gradient takes three dispatches: what each query needs, dq, and dk with dv. The last two compute
the scores anew, each for its own tiles, so that no two workgroups add to one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import attrs

from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup_webgpu.attention_tiles import (
    BACKWARD,
    FORWARD,
    VECTOR,
    Plain,
    Problem,
    Reader,
    Space,
    Tile,
    stack_of,
    tile_parts,
)
from groundup_webgpu.machine import Machine
from groundup_webgpu.rows import (
    WORKERS,
    begins,
    kind,
    lane_includes,
    lanes_for,
    rows_of,
    zeros,
)  # fmt: skip
from groundup_webgpu.source import SCRATCH, STORED, Parameters, Stage, indented, spread

Layouts = Sequence[Layout]


def attention(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """The forward op in one dispatch."""
    q, k, v, *extras = inputs
    problem = Problem(op, q, k, v, extras, machine)
    refused = problem.refused()
    if refused is not None or not outputs[1].size:
        return refused or []
    if not outputs[0].size:
        return Declined("v has no columns")
    return [problem.best(lambda vector: _forward(problem, outputs[0], vector))]


def cached_attention(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """Attention over a cache in one dispatch."""
    q, k, v, length = inputs
    problem = Problem(Plain(op.scale), q, k, v, (), machine)
    refused = problem.refused()
    if refused is not None or not outputs[0].size:
        return refused or []
    return [problem.best(lambda vector: _cached(problem, length, outputs[0], vector))]


def attention_backward(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """The gradients in three dispatches."""
    q, k, v, out, logsumexp, grad, grad_logsumexp, *extras = inputs
    problem = Problem(op, q, k, v, extras, machine)
    refused = problem.refused()
    if refused is not None:
        return refused
    if not (q.size and k.size and v.size):
        return [zeros(i, each) for i, each in enumerate(outputs) if each.size]
    backward = _Backward(problem, (grad, out, logsumexp, grad_logsumexp))
    return [backward.rows(), problem.best(backward.dq, grad), problem.best(backward.dkdv, grad)]


@attrs.frozen
class _Forward:
    """One dispatch for the queries of all heads; `written` outputs, of which `out` is the first."""

    problem: Problem
    out: Layout
    vector: bool
    written: int

    @property
    def tile(self) -> Tile:
        return self.problem.tile(FORWARD, self._memory)

    def _memory(self, tile: Tile) -> int:
        return sum(space.vectors for space in self._spaces(tile))

    def _spaces(self, tile: Tile) -> tuple[Space, Space, Space, Space]:
        """For queries; for keys, then values; for probabilities; for what threads tell others."""
        (d, e), stack = self.problem.pitches, stack_of(self.problem.machine)
        return (
            Space("line_d", tile.lines, d), Space("wide", tile.wide, max(d, e), stack),
            Space("scores", tile.wide, tile.groups, stack),
            Space("shares", tile.columns, tile.groups),
        )  # fmt: skip

    def parts(self, parameters: Parameters, words: Sequence[str]) -> dict[str, str]:
        """What both forward ops put into the template."""
        problem, tile = self.problem, self.tile
        q, k, v = problem.q, problem.k, problem.v
        d_quads, e_quads = problem.quads
        reader = Reader(parameters, self.written, self.vector)
        sizes = problem.sizes(parameters)
        spaces = queries, wide, *_ = self._spaces(tile)
        return {
            **sizes, **tile_parts(tile, spaces, wide.stack),
            **problem.seen(parameters, 3, self.written), "kept": problem.kept(parameters, words),
            "e_each": str(-(-e_quads // tile.columns)),
            "line_d": "line_d", "wide_d": "wide", "wide_e": "wide",
            "tiles": parameters.add(-(-q.shape[2] // tile.lines)),
            "end": f"min({sizes['keys']}, first + LINES + {sizes['last']})", "prepare": "",
            "beginnings": indented([
                reader.beginning(0, q, "head.batch", "head.head"),
                reader.beginning(1, k, "head.batch", "shared_head"),
                reader.beginning(2, v, "head.batch", "shared_head"),
            ]),
            "dropped": problem.dropped("first + own + @ * GROUPS, key{j}"), "logsumexp": "",
            "functions": reader.tile_of(0, q, d_quads, queries)
            + reader.tile_of(1, k, d_quads, wide) + reader.tile_of(2, v, e_quads, wide)
            + reader.put(0, self.out, e_quads),
        }  # fmt: skip

    def stage(
        self, parameters: Parameters, parts: Mapping[str, str], extras: Layouts
    ) -> Stage:  # fmt: skip
        problem, n = self.problem, self.written
        operands = [(0, kind(self.out.dtype, self.vector)), *[(i, "f32") for i in range(1, n)]]
        given = (problem.q, problem.k, problem.v)
        operands += [(n + i, kind(x.dtype, self.vector)) for i, x in enumerate(given)]
        operands += [(n + 3 + i, STORED[x.dtype]) for i, x in enumerate(extras)]
        B, H, T, _ = problem.q.shape
        groups = spread(-(-T // self.tile.lines) * B * H, 1)
        return Stage(
            "attention", parts, tuple(parameters.values), tuple(operands), groups, written=n,
            includes=(*problem.includes(), "attention_tiles"),
        )  # fmt: skip


def _forward(problem: Problem, out: Layout, vector: bool) -> Stage:
    op, extras = problem.op, problem.extras
    parameters = Parameters(5 + len(extras))
    words = []
    if op.dropout:
        state = 3 + op.masked
        step = parameters.add(extras[-1].strides[0])
        begin = f"param({2 + state}u)"
        words = [f"bitcast<u32>(load{state}({begin} + {i} * {step}))" for i in range(4)]
    forward = _Forward(problem, out, vector, written=2)
    parts = forward.parts(parameters, words)
    parts["logsumexp"] = indented([
        "    if (lane == 0) {",
        "        let found = select(top[{i}] + log_f32(sum[{i}]), -infinity(), sum[{i}] == 0.0);",
        "        save1(param(1u) + line, found);",
        "    }",
    ])  # fmt: skip
    return forward.stage(parameters, parts, extras)


def _cached(problem: Problem, length: Layout, out: Layout, vector: bool) -> Stage:
    """As many keys as the length says, which only the device knows."""
    parameters = Parameters(5)
    forward = _Forward(problem, out, vector, written=1)
    parts = forward.parts(parameters, ())
    parts["functions"] += "var<workgroup> newest: i32;\n"
    parts["prepare"] = indented([
        "if (index == 0u) {",
        "    newest = load3(param(4u));",
        "}",
        "let filled = workgroupUniformLoad(&newest);",
    ])  # fmt: skip
    parts["last"] = f"(newest - {parts['queries']})"
    parts["end"] = f"min(min({parts['keys']}, filled), first + LINES + filled - {parts['queries']})"
    parts["keys"] = f"min({parts['keys']}, newest)"
    return forward.stage(parameters, parts, (length,))


@attrs.frozen
class _Spaces:
    """Workgroup memory of a gradient: for own lines, for those gone over, for the scores.

    The letters are those of q and k, d, and of v and its like, e.
    """

    line_d: Space
    line_e: Space
    wide_d: Space
    wide_e: Space  # the same as wide_d, where both in turn lie in one
    scores: Space

    @property
    def every(self) -> list[Space]:
        """Each once."""
        return list(dict.fromkeys(attrs.astuple(self, recurse=False)))

    @property
    def vectors(self) -> int:
        """How many there is room for."""
        return sum(space.vectors for space in self.every)

    @property
    def names(self) -> dict[str, str]:
        """As the templates have them."""
        names = {
            name: getattr(self, name).name for name in ("line_d", "line_e", "wide_d", "wide_e")
        }
        return {**names, "together": "true" if self.wide_d == self.wide_e else "false"}


@attrs.frozen
class _Backward:
    problem: Problem
    given: tuple[Layout, Layout, Layout, Layout]  # grad, out, logsumexp, its gradient

    def rows(self) -> Stage:
        """What each query needs, to scratch memory."""
        made = self._rows(vector=False)
        if all(rows_of(x).in_vectors for x in self.given[:2]):
            made = attrs.evolve(made, aligned=self._rows(vector=True))
        return made

    def _rows(self, vector: bool) -> Stage:
        problem = self.problem
        grad, out = rows_of(self.given[0]), rows_of(self.given[1])
        dropout = bool(problem.op.dropout)
        parameters = Parameters(6 if dropout else 5)
        add = parameters.add
        units = grad.width // 4 if vector else grad.width
        lanes = lanes_for(grad.count, units, grad.step == 1, problem.machine)
        steps = [x.strides for x in self.given[2:]]
        state = []
        if dropout:
            step = add(problem.extras[-1].strides[0])
            state = [
                "if (number < 4 && lane == 0u) {",
                f"    save(param(0u) + number, load4(param(5u) + number * {step}));",
                "}",
            ]
        parts = {
            "lanes": str(lanes), "rows": add(grad.count), "units": add(units),
            "step0": add(grad.step), "step1": add(out.step), "state": indented(state),
            "index": begins(
                parameters, 1, grad.lead, ("at0", "at1") if vector else (), at0=grad.steps,
                at1=out.steps, at2=steps[0], at3=steps[1],
            ),
        }  # fmt: skip
        operands = [(SCRATCH, "i32"), (8, kind(self.given[0].dtype, vector))]
        operands += [(6, kind(self.given[1].dtype, vector)), (7, "f32"), (9, "f32")]
        if dropout:
            operands.append((10 + problem.op.masked, "i32"))
        count = max(grad.count, 4) if dropout else grad.count
        return Stage(
            "attention_rows", parts, tuple(parameters.values), tuple(operands),
            spread(count, WORKERS // lanes), scratch=16 + 8 * grad.count,
            includes=lane_includes(lanes, vector, problem.machine),
        )  # fmt: skip

    def dq(self, vector: bool) -> Stage:
        problem, (q, k, v) = self.problem, (self.problem.q, self.problem.k, self.problem.v)
        tile, spaces = self._tile(apart=False)
        parameters = Parameters(6 + problem.op.masked)
        reader = Reader(parameters, 1, vector)
        own = spaces.line_d, spaces.wide_d, spaces.wide_e, spaces.line_e
        parts = self._common(reader, tile, spaces, own)
        tiles = -(-q.shape[2] // tile.lines)
        end = parts["keys"]
        parts |= {
            "tiles": parameters.add(tiles),
            "end": f"min({end}, first + LINES + {parts['last']})",
            "beginnings": indented([
                reader.beginning(0, q, "head.batch", "head.head"),
                reader.beginning(1, k, "head.batch", "shared_head"),
                reader.beginning(2, v, "head.batch", "shared_head"),
                reader.beginning(3, self.given[0], "head.batch", "head.head"),
            ]),
            "dropped": problem.dropped("query@, key{j}"),
        }  # fmt: skip
        parts["functions"] += reader.put(0, q, problem.quads[0])
        groups = spread(tiles * q.shape[0] * q.shape[1], 1)
        return self._stage("attention_dq", parts, reader, (0,), groups)

    def dkdv(self, vector: bool) -> Stage:
        problem, (q, k, v) = self.problem, (self.problem.q, self.problem.k, self.problem.v)
        tile, spaces = self._tile(apart=True)
        parameters = Parameters(7 + problem.op.masked)
        reader = Reader(parameters, 2, vector)
        own = spaces.wide_d, spaces.line_d, spaces.line_e, spaces.wide_e
        parts = self._common(reader, tile, spaces, own)
        tiles = -(-k.shape[2] // tile.lines)
        keep = ""
        if problem.op.dropout:
            keep = f"let keep{{j}} = vec4<f32>(1.0){problem.dropped('query{j}, key@')};"
        parts |= {
            "tiles": parameters.add(tiles),
            "begin": f"max(0, first - {parts['last']}) / WIDE * WIDE",
            "beginnings": indented([
                reader.beginning(1, k, "batch", "shared_head"),
                reader.beginning(2, v, "batch", "shared_head"),
            ]),
            "query_beginnings": indented([
                reader.beginning(0, q, "head.batch", "head.head"),
                reader.beginning(3, self.given[0], "head.batch", "head.head"),
            ]),
            "keep": f"            {keep}" if keep else "",
            "dropped": " * keep{j}" if keep else "",
        }  # fmt: skip
        parts["functions"] += reader.put(0, k, problem.quads[0])
        parts["functions"] += reader.put(1, v, problem.quads[1])
        groups = spread(tiles * k.shape[0] * k.shape[1], 1)
        return self._stage("attention_dkdv", parts, reader, (1, 2), groups)

    def _tile(self, apart: bool) -> tuple[Tile, _Spaces]:
        """The tile, and its workgroup memory.

        `apart` asks for room for both tensors that are gone over, if there is any.
        """
        tile = self.problem.tile(BACKWARD, lambda t: self._spaces(t, apart=False).vectors)
        spaces = self._spaces(tile, apart)
        if spaces.vectors * VECTOR > self.problem.machine.memory:
            spaces = self._spaces(tile, apart=False)
        return tile, spaces

    def _spaces(self, tile: Tile, apart: bool) -> _Spaces:
        (d, e), stack = self.problem.pitches, stack_of(self.problem.machine)
        lines = Space("line_d", tile.lines, d), Space("line_e", tile.lines, e)
        scores = Space("scores", tile.wide, tile.groups, stack)
        if not apart:
            wide = Space("wide", tile.wide, max(d, e), stack)
            return _Spaces(*lines, wide, wide, scores)
        wide_d, wide_e = (Space(f"wide_{n}", tile.wide, p, stack) for n, p in (("d", d), ("e", e)))
        return _Spaces(*lines, wide_d, wide_e, scores)

    def _common(
        self, reader: Reader, tile: Tile, spaces: _Spaces, own: Sequence[Space]
    ) -> dict[str, str]:
        """Texts of both kernels; `own` are the spaces that q, k, v and grad are read into."""
        problem, parameters = self.problem, reader.parameters
        d_quads, e_quads = problem.quads
        quads = d_quads, d_quads, e_quads, e_quads
        operands = zip((problem.q, problem.k, problem.v, self.given[0]), quads, own, strict=True)
        scratch = f"param({reader.written + 4}u)"
        words = [f"bitcast<u32>(load4({scratch} + {i}))" for i in range(4)]
        return {
            **problem.sizes(parameters), **tile_parts(tile, spaces.every, spaces.scores.stack),
            **spaces.names,
            **problem.seen(parameters, 5, reader.written),
            "kept": problem.kept(parameters, words),
            "d_each": str(-(-d_quads // tile.columns)), "e_each": str(-(-e_quads // tile.columns)),
            "scratch": scratch, "rows": parameters.add(prod(problem.q.shape[:3])),
            "functions": "".join(
                reader.tile_of(n, x, count, space) for n, (x, count, space) in enumerate(operands)
            ),
        }  # fmt: skip

    def _stage(
        self, family: str, parts: Mapping[str, str], reader: Reader, outputs: Sequence[int],
        groups: tuple[int, int, int],
    ) -> Stage:  # fmt: skip
        problem, vector = self.problem, reader.vector
        operands = [(i, kind(problem.q.dtype, vector)) for i in outputs]
        given = (problem.q, problem.k, problem.v, self.given[0])
        numbers = (3, 4, 5, 8)
        operands += [(i, kind(x.dtype, vector)) for i, x in zip(numbers, given, strict=True)]
        operands.append((SCRATCH, "i32"))
        if problem.op.masked:
            operands.append((10, STORED[problem.extras[0].dtype]))
        return Stage(
            family, parts, tuple(reader.parameters.values), tuple(operands), groups,
            written=len(outputs),
            includes=(*problem.includes(), "attention_tiles", "attention_scratch"),
        )  # fmt: skip

"""sum, prod, max, min, any and all over axes: how threads share it, by where elements lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from groundup import dtypes
from groundup.layout import Layout
from groundup_webgpu.machine import Machine
from groundup_webgpu.maps import each_element
from groundup_webgpu.source import (
    OUT,
    SCRATCH,
    STORED,
    WORKGROUP,
    Parameters,
    Stage,
    collapsed,
    computed,
    spread,
    walk,
)  # fmt: skip

_TURNS: Final = 1 << 14  # of one thread's loop; Mesa's software driver leaves loops after 65,535
_ENOUGH: Final = 16  # elements of a thread that are worth a piece of their own
_ITEM: Final = 4  # bytes of an element in scratch memory
_WORKERS: Final = 256  # threads of a workgroup that goes over columns
_ACROSS: Final = 32  # results, of neighbouring columns, that they have together
_JOINED: Final = {
    "sum": "a + b", "prod": "a * b", "any": "a | b", "all": "a & b",
    "max": "maximum", "min": "minimum",
}  # fmt: skip
_STARTS: Final = {"sum": "", "prod": "1", "any": "", "all": "1u"}
WIDE: Final = {dtypes.float16: dtypes.float32}  # how scratch memory holds what is added up


def reduced(op: Any, inputs: Sequence[Layout], out: Layout, machine: Machine) -> list[Stage]:
    """One of them over `op.axes`; where there is much to reduce, in pieces and then over those."""
    (x,) = inputs
    if not x.size:
        parameters = Parameters(1)
        blank = parameters.number(op.name in ("prod", "all"), out.dtype)
        return [each_element(parameters, [], out, "    let place = param(0u) + i;", blank)]
    axes = range(x.rank) if op.axes is None else sorted(a % x.rank for a in op.axes)
    problem = _Problem(
        op.name, 1, taken(x, [a for a in range(x.rank) if a not in axes]), taken(x, axes), machine
    )
    pieces = problem.pieces()
    if pieces == 1:
        return [problem.stage(out, OUT, 1)]
    partial = Layout((pieces, out.size), (out.size, 1), WIDE.get(out.dtype, out.dtype))
    rest = _Problem(op.name, SCRATCH, taken(partial, [1]), taken(partial, [0]), machine)
    return [problem.stage(partial, SCRATCH, pieces), rest.stage(out, OUT, 1)]


def taken(x: Layout, axes: Sequence[int]) -> Layout:
    """Some axes of `x`."""
    return Layout(tuple(x.shape[a] for a in axes), tuple(x.strides[a] for a in axes), x.dtype)


@attrs.frozen
class _Problem:
    """For every place of `rows` the elements along `columns`, of an operand, to one number."""

    op: str
    operand: int
    rows: Layout
    columns: Layout
    machine: Machine

    @property
    def across(self) -> bool:
        """Whether neighbouring results are made of neighbours in memory, and the elements of one
        are not: then threads go over them side by side.
        """
        _, ((*_, along),) = collapsed(self.columns.shape, self.columns.strides)
        shape, ((*_, beside),) = collapsed(self.rows.shape, self.rows.strides)
        near = beside == 1 and along != 1 and shape[-1] >= 4
        return near and not self.machine.software

    def pieces(self) -> int:
        """As many as keep the device busy, and bound the turns of each thread."""
        count = self.columns.size
        shared = _WORKERS // _ACROSS if self.across else WORKGROUP
        least = -(-count // (shared * _TURNS))
        if self.machine.software:
            return max(1, least)
        wanted = self.machine.threads // (shared * self.rows.size)
        return max(1, least, min(wanted, count // (shared * _ENOUGH)))

    def stage(self, out: Layout, target: int, pieces: int) -> Stage:
        """In so many pieces, one behind the other in `target`."""
        if not self.across:
            return self._along(out, target, pieces)
        made = self._across(out, target, pieces, width=1)
        shape, ((*others, _),) = collapsed(self.rows.shape, self.rows.strides)
        strides = (*others, *self.columns.strides)
        whole = shape[-1] % 4 == 0 and not any(s % 4 for s in strides)
        if not whole:
            return made
        return attrs.evolve(made, aligned=self._across(out, target, pieces, width=4))

    def _along(self, out: Layout, target: int, pieces: int) -> Stage:
        """By threads that share the elements of a piece."""
        count = -(-self.columns.size // pieces)
        wanted = max(self.machine.threads // (self.rows.size * pieces), -(-count // _TURNS))
        lanes = min(WORKGROUP, 1 << max(0, wanted - 1).bit_length())
        if target == SCRATCH:
            lanes = WORKGROUP
        parameters = Parameters(2)
        add = parameters.add
        inner = walk(parameters, "j", self.columns.shape, column=self.columns.strides)
        parts = {
            "rows": add(self.rows.size), "pieces": add(pieces), "count": add(self.columns.size),
            "piece": add(count), "lanes": f"{lanes}", "inner": inner,
            "index": walk(parameters, "i", self.rows.shape, at0=self.rows.strides),
            **self._texts(out, 1),
        }  # fmt: skip
        return Stage(
            "reduction" if lanes > 1 else "reduction_alone", parts, tuple(parameters.values),
            ((target, STORED[out.dtype]), (self.operand, STORED[self.rows.dtype])),
            spread(self.rows.size * pieces, WORKGROUP // lanes), self._scratch(target, pieces),
        )  # fmt: skip

    def _across(self, out: Layout, target: int, pieces: int, width: int) -> Stage:
        """By threads side by side, with vectors of `width` results."""
        shape, (steps,) = collapsed(self.rows.shape, self.rows.strides)
        units, across = self.rows.size // width, _ACROSS // width
        parameters = Parameters(2)
        add = parameters.add
        inner = walk(parameters, "j", self.columns.shape, column=self.columns.strides)
        parts = {
            "units": add(units), "across": add(-(-units // across)), "pieces": add(pieces),
            "count": add(self.columns.size), "piece": add(-(-self.columns.size // pieces)),
            "beside": str(across), "width": str(width), "inner": inner,
            "index": walk(
                parameters, "i", (*shape[:-1], shape[-1] // width), at0=(*steps[:-1], width)
            ),
            **self._texts(out, width),
        }  # fmt: skip
        kinds = STORED[out.dtype], STORED[self.rows.dtype]
        written, read = (f"vec4<{k}>" if width > 1 else k for k in kinds)
        return Stage(
            "reduction_columns", parts, tuple(parameters.values),
            ((target, written), (self.operand, read)),
            spread(-(-units // across) * pieces, 1), self._scratch(target, pieces),
        )  # fmt: skip

    def _scratch(self, target: int, pieces: int) -> int:
        return _ITEM * self.rows.size * pieces if target == SCRATCH else 0

    def _texts(self, out: Layout, width: int) -> dict[str, str]:
        """How elements come together, as numbers or as vectors."""
        number = computed(out.dtype)
        kind = f"vec4<{number}>" if width > 1 else number
        found = f"load0((first + column) / {width})" if width > 1 else "load0(first + column)"
        if self.op in ("any", "all"):
            found = _truth(found, self.rows.dtype, width)
        elif self.rows.dtype is dtypes.bool_:
            found = f"{kind}({found})"
        joined = _JOINED[self.op]
        if self.op in ("max", "min"):
            name = f"{joined}_{number}"
            joined = f"{name}(a, b)"
            if width > 1:
                each = ", ".join(f"{name}(a.{c}, b.{c})" for c in "xyzw")
                joined = f"{kind}({each})"
        # The first element stands for the maximum of nothing: it is one of them anyway.
        first = "first" if width == 1 else f"first / {width}"
        start = f"{kind}({_STARTS[self.op]})" if self.op in _STARTS else f"load0({first})"
        return {"type": kind, "start": start, "element": found, "joined": joined}


def _truth(value: str, dtype: dtypes.DType, width: int) -> str:
    """1 for what is not zero, NaN included, by its bits: a comparison may be folded away."""
    kind = "vec4<u32>" if width > 1 else "u32"
    bits = f"bitcast<{kind}>({value})"
    if dtype.is_floating:
        bits = f"({bits} & {kind}(0x7fffffffu))"
    return f"select({kind}(), {kind}(1u), {bits} != {kind}())"

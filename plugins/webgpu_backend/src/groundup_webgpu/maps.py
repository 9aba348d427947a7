"""Elementwise kernels: an expression for each element, by vectors where operands lie in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from groundup.layout import Layout
from groundup.shapes import Shape
from groundup_webgpu.source import (
    OUT,
    SCRATCH,
    STORED,
    Parameters,
    Stage,
    collapsed,
    computed,
    indented,
    spread,
    walk,
)  # fmt: skip

_ITEM = 4  # bytes of an element in scratch memory


@attrs.frozen
class Body:
    """What is computed of each element: statements, then an expression, of the named operands.

    `operands` are their numbers and layouts, `target` the number of the output.
    """

    names: Sequence[str]
    operands: Sequence[tuple[int, Layout]]
    out: Layout
    target: int

    @property
    def in_vectors(self) -> bool:
        """Whether vectors of all can be read and written, but for where the memory begins."""
        if not self.out.is_row_major or self.out.size % 4:
            return False
        return all(_flat(x) for _, x in self.operands) or self._whole_lines

    @property
    def _whole_lines(self) -> bool:
        """Whether no vector goes beyond a line, along which each operand goes by 1 or by 0."""
        shape, steps = self._lines
        return shape[-1] % 4 == 0 and all(
            step[-1] in (0, 1) and not (step[-1] and any(s % 4 for s in step[:-1]))
            for step in steps
        )

    @property
    def _lines(self) -> tuple[Shape, tuple[Shape, ...]]:
        """The shape and each operand's strides, with the fewest axes."""
        return collapsed(self.out.shape, *[x.strides for _, x in self.operands])

    def vectors(
        self, parameters: Parameters, value: str, steps: Sequence[str] = (), scratch: bool = False
    ) -> Stage:
        """The stage; `parameters` are those of the texts, after the places of all operands."""
        single = self._single()
        memory = [(self.target, f"vec4<{STORED[self.out.dtype]}>")]
        for (i, x), one in zip(self.operands, single, strict=True):
            memory.append((i, STORED[x.dtype] if one else f"vec4<{STORED[x.dtype]}>"))
        values = []
        for part in "xyzw":
            given = [f"v{k}" if one else f"v{k}.{part}" for k, one in enumerate(single)]
            values.append(f"value_of({', '.join(given)})")
        kinds = [computed(x.dtype) for _, x in self.operands]
        arguments = [f"{name}: {kind}" for name, kind in zip(self.names, kinds, strict=True)]
        parts = {
            "arguments": ", ".join(arguments), "type": computed(self.out.dtype),
            "steps": indented(steps), "value": value, "loads": self._loads(parameters, single),
            "values": ", ".join(values), "size": parameters.add(self.out.size // 4),
        }  # fmt: skip
        return Stage(
            "map_vectors", parts, tuple(parameters.values), tuple(memory),
            spread(self.out.size // 4, 256), _ITEM * self.out.size if scratch else 0,
        )  # fmt: skip

    def _single(self) -> list[bool]:
        """Which operands have one number for a whole vector."""
        if all(_flat(x) for _, x in self.operands):
            return [not x.is_row_major for _, x in self.operands]
        lasts = [steps[-1] for steps in self._lines[1]]
        pairs = zip(self.operands, lasts, strict=True)
        return [not (x.is_row_major or last) for (_, x), last in pairs]

    def _loads(self, parameters: Parameters, single: Sequence[bool]) -> str:
        """Statements that read what each operand has for vector `i`."""
        shape, steps = self._lines
        walked: dict[str, Any] = {}
        loads = []
        for k, ((_, x), one) in enumerate(zip(self.operands, single, strict=True)):
            if _flat(x):
                at = f"param({k + 1}u)" if one else f"param({k + 1}u) / 4 + i"
            else:
                walked[f"at{k}"] = (*steps[k][:-1], 4 * steps[k][-1])
                at = f"at{k}" if one else f"at{k} / 4"
            loads.append(f"let v{k} = load{k}({at});")
        index = []
        if walked:
            index = [walk(parameters, "i", (*shape[:-1], shape[-1] // 4), **walked)]
        return "\n".join([*index, indented(loads)])


def mapped(value: str, operands: Any, out: Layout, target: int = OUT) -> Stage:
    """One expression per element of a, b, c: the `operands`, pairs of position and layout."""
    operands = list(operands)
    parameters = Parameters(1 + len(operands))
    strides = {f"at{k}": layout.strides for k, (_, layout) in enumerate(operands)}
    index = walk(parameters, "i", out.shape, place=out.strides, **strides)
    names = zip("abc", strides, strict=False)
    loads = [f"let {letter} = load{at[2:]}({at});" for letter, at in names]
    made = each_element(parameters, operands, out, f"{index}\n{indented(loads)}", value, target)
    body = Body("abc"[: len(operands)], operands, out, target)
    if not body.in_vectors:
        return made
    vectors = body.vectors(Parameters(1 + len(operands)), value, scratch=target == SCRATCH)
    return attrs.evolve(made, aligned=vectors)


def placed(number: int, x: Layout, window: Layout, start: int) -> Stage:
    """Operand `number` into a window of the output that begins at `start`: x's shape, the output's
    strides.
    """
    made = _placed(number, x, window, start, 1)
    shape, steps = collapsed(x.shape, x.strides, window.strides)
    others = [s for own in steps for s in own[:-1]]
    beside = all(own[-1] == 1 for own in steps)
    if not beside or any(n % 4 for n in (shape[-1], start, *others)):
        return made
    return attrs.evolve(made, aligned=_placed(number, x, window, start, 4))


def _placed(number: int, x: Layout, window: Layout, start: int, width: int) -> Stage:
    """By numbers or by vectors."""
    parameters = Parameters(2)
    shape, (read, written) = collapsed(x.shape, x.strides, window.strides)
    if width > 1:  # neighbours in both
        shape = (*shape[:-1], shape[-1] // width)
        read, written = ((*own[:-1], width) for own in (read, written))
    index = walk(parameters, "i", shape, place=written, at0=read)
    index += f"\n    place = (place + {parameters.add(start)}) / {width};"
    parts = {
        "size": parameters.add(x.size // width), "index": index, "value": f"load0(at0 / {width})",
    }  # fmt: skip
    kinds = STORED[window.dtype], STORED[x.dtype]
    out, given = (f"vec4<{k}>" if width > 1 else k for k in kinds)
    groups = spread(x.size // width, 256)
    return Stage("map", parts, tuple(parameters.values), ((OUT, out), (number, given)), groups)


def each_element(
    parameters: Parameters, operands: Any, out: Layout, index: str, value: str, target: int = OUT
) -> Stage:
    """One `value` per element, at `place`: both are texts that build on `index`."""
    parts = {"size": parameters.add(out.size), "index": index, "value": value}
    memory = [(target, STORED[out.dtype]), *[(i, STORED[x.dtype]) for i, x in operands]]
    scratch = _ITEM * out.size if target == SCRATCH else 0
    values, groups = tuple(parameters.values), spread(out.size, 256)
    return Stage("map", parts, values, tuple(memory), groups, scratch)


def _flat(x: Layout) -> bool:
    """Whether its elements lie in order, or are one."""
    return x.is_row_major or not any(x.strides)

"""WGSL source of a kernel: a template, the places of its operands, and the parameters it reads.

Shapes, strides and offsets are parameters, not text, so one pipeline serves all shapes of a rank.
The first parameters are the offsets of the output and of the inputs, known when memory is bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Final, Literal

import attrs

from groundup import dtypes
from groundup.dtypes import DType
from groundup.shapes import Shape

WGSL: Final = {dtypes.float32: "f32", dtypes.int32: "i32", dtypes.bool_: "u32"}
WORKGROUP: Final = 64
VECTOR: Final = 16  # bytes of a vec4
_MOST: Final = 65535  # workgroups of one dimension


class Parameters:
    """Numbers that a kernel reads from its uniform buffer; `add` gives the text that reads one."""

    def __init__(self, operands: int) -> None:
        self.values = [0] * operands  # the offsets come here

    def add(self, value: int) -> str:
        """The expression of one more parameter."""
        self.values.append(int(value))
        return f"param({len(self.values) - 1}u)"


SCRATCH: Final = -1
Target = Literal["out", "scratch"]


@attrs.frozen(eq=False)
class Stage:
    """One dispatch: its source, its parameters, which inputs it reads, how many workgroups.

    `aligned` is a quicker one for memory whose offsets are multiples of `VECTOR` bytes.
    """

    source: str
    parameters: tuple[int, ...]
    inputs: tuple[int, ...]  # positions of the op's inputs, or SCRATCH
    groups: tuple[int, int, int]
    target: Target = "out"
    aligned: Stage | None = None


def collapsed(shape: Shape, *strides: Shape) -> tuple[Shape, tuple[Shape, ...]]:
    """The same places with the fewest axes: neighbours that are evenly spaced in all operands join.

    `strides` are those of each operand over `shape`. At least one axis remains.
    """
    axes: list[tuple[int, tuple[int, ...]]] = []
    for axis, size in enumerate(shape):
        steps = tuple(s[axis] for s in strides)
        if size == 1:
            continue
        if axes and all(a == size * b for a, b in zip(axes[-1][1], steps, strict=True)):
            axes[-1] = (axes[-1][0] * size, steps)
        else:
            axes.append((size, steps))
    if not axes:
        axes = [(1, (0,) * len(strides))]
    sizes = tuple(size for size, _ in axes)
    return sizes, tuple(tuple(s[i] for _, s in axes) for i in range(len(strides)))


def places(
    parameters: Parameters, number: str, shape: Shape, operands: Sequence[tuple[str, str, Shape]]
) -> str:
    """Statements that split the flat `number` into coordinates and sum each operand's place.

    `operands` are (variable, text of where it begins, strides). The divisions are unsigned: signed
    ones are guarded against -2^31 / -1 and cost several times as much.
    """
    lines = [f"var rest_{number} = u32({number});"] if len(shape) > 1 else []
    lines += [f"var {name} = {start};" for name, start, _ in operands]
    for axis in reversed(range(len(shape))):
        coordinate = number if len(shape) == 1 else f"c_{number}_{axis}"
        if len(shape) > 1:
            size = f"u32({parameters.add(shape[axis])})"
            last = f"rest_{number}" if axis == 0 else f"rest_{number} % {size}"
            lines.append(f"let {coordinate} = i32({last});")
            if axis:
                lines.append(f"rest_{number} = rest_{number} / {size};")
        lines += [
            f"{name} += {coordinate} * {parameters.add(strides[axis])};"
            for name, _, strides in operands
        ]
    return "\n".join("    " + line for line in lines)


def stage(
    family: str,
    parameters: Parameters,
    inputs: Sequence[tuple[int, DType | str]],
    out: str,
    groups: tuple[int, int, int],
    target: Target = "out",
    **parts: str,
) -> Stage:
    """A stage from the template `kernels/<family>.wgsl`.

    `inputs` are (operand, dtype, or how WGSL calls its elements), `out` is such a text.
    """
    bindings = [f"@group(0) @binding(0) var<storage, read_write> out: array<{out}>;"]
    for i, (_, dtype) in enumerate(inputs):
        kind = f"array<{dtype if isinstance(dtype, str) else WGSL[dtype]}>"
        bindings.append(f"@group(0) @binding({i + 1}) var<storage, read> in{i}: {kind};")
    count = -(-len(parameters.values) // 4)
    bindings.append(
        f"@group(0) @binding({len(inputs) + 1}) var<uniform> params: array<vec4<i32>, {count}>;"
    )
    body = Template(_read(family)).substitute(parts)
    source = "\n".join([*bindings, _read("common"), body])
    return Stage(source, tuple(parameters.values), tuple(i for i, _ in inputs), groups, target)


def spread(threads: int, each: int = WORKGROUP) -> tuple[int, int, int]:
    """Workgroups for so many threads, over two dimensions where one is too small."""
    groups = max(1, -(-threads // each))
    x = min(groups, _MOST)
    return x, -(-groups // x), 1


def numbered(source: str) -> str:
    """The source with line numbers, for messages."""
    return "\n".join(f"{i:4} {line}" for i, line in enumerate(source.splitlines(), 1))


@cache
def _read(name: str) -> str:
    return files("groundup_webgpu").joinpath("kernels", f"{name}.wgsl").read_text("utf-8")

"""WGSL source of a kernel: a template, the places of its operands, and the parameters it reads.

Shapes, strides and offsets are parameters, not text, so one pipeline serves all shapes of a rank.
The first parameters are the offsets of the output and of the inputs, known when memory is bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Final

import attrs
import numpy as np

from groundup import dtypes
from groundup.dtypes import DType
from groundup.shapes import Shape

STORED: Final = {
    dtypes.float32: "f32", dtypes.float16: "f16", dtypes.int32: "i32", dtypes.bool_: "u32",
}  # fmt: skip
OUT, SCRATCH = 0, -1  # operands of a stage; the inputs are 1, 2, ...
WORKGROUP: Final = 64
VECTOR: Final = 16  # bytes at whose multiples a `Stage.aligned` must find its memory
_MOST: Final = 65535  # workgroups of one dimension
_BEGINS: Final = {"place": "param(0u)", "at0": "param(1u)", "at1": "param(2u)", "at2": "param(3u)"}


class Parameters:
    """Numbers that a kernel reads from its uniform buffer; `add` gives the text that reads one."""

    def __init__(self, operands: int) -> None:
        self.values = [0] * operands  # the offsets come here

    def add(self, value: int) -> str:
        """The expression of one more parameter, an integer."""
        self.values.append(int(value))
        return f"param({len(self.values) - 1}u)"

    def number(self, value: float, dtype: DType) -> str:
        """The expression of one more parameter, as kernels compute with `dtype`."""
        if not dtype.is_floating:
            whole = bool(value) if dtype is dtypes.bool_ else int(value)
            return f"{STORED[dtype]}({self.add(whole)})"
        with np.errstate(over="ignore"):  # infinity in a narrower float
            bits = np.asarray(value, dtype.numpy).astype(np.float32).view(np.int32)
        return f"bitcast<f32>({self.add(int(bits))})"


@attrs.frozen(eq=False)
class Stage:
    """One dispatch: its template with what goes into it, its memory, how many workgroups.

    `operands` are numbers, OUT and SCRATCH among them, and how WGSL calls the elements; the first
    is written. `aligned` is a quicker stage for memory at multiples of `VECTOR` bytes.
    """

    family: str
    parts: Mapping[str, str]
    parameters: tuple[int, ...]
    operands: tuple[tuple[int, str], ...]
    groups: tuple[int, int, int]
    scratch: int = 0  # bytes of workspace that it writes
    aligned: Stage | None = None

    def bindings(self, shared: Sequence[bool]) -> list[tuple[int, str]]:
        """Which inputs have bindings of their own, and of which kind.

        WebGPU refuses a buffer that is read beside being written, so an input that is `shared`,
        lies in the output's buffer, is read through the output. One of another width cannot be,
        and is bound as if it were written too.
        """
        (_, out), *inputs = self.operands
        kinds = []
        for i, (_, kind) in enumerate(inputs):
            if not shared[i]:
                kinds.append((i, "read-only-storage"))
            elif ("f16" in kind) != ("f16" in out):
                kinds.append((i, "storage"))
        return kinds

    def source(self, shared: Sequence[bool]) -> str:
        """The WGSL for such memory: bindings, `loadK` of each input, `save`, and the template."""
        (_, out), *inputs = self.operands
        half = any("f16" in kind for _, kind in self.operands)
        lines = ["enable f16;"] if half else []
        lines.append(f"@group(0) @binding(0) var<storage, read_write> out: array<{out}>;")
        element = {}
        for binding, (i, access) in enumerate(self.bindings(shared), 1):
            mode = "read" if access.startswith("read") else "read_write"
            kind = f"array<{inputs[i][1]}>"
            lines.append(f"@group(0) @binding({binding}) var<storage, {mode}> in{i}: {kind};")
            element[i] = f"in{i}[at]"
        count = -(-len(self.parameters) // 4)
        last = 1 + len(element)
        lines.append(f"@group(0) @binding({last}) var<uniform> params: array<vec4<i32>, {count}>;")
        for i, (_, kind) in enumerate(inputs):
            same = "out[at]" if kind == out else f"bitcast<{kind}>(out[at])"
            value = widened(kind)
            text = f"return {value}({element.get(i, same)});"
            lines.append(f"fn load{i}(at: i32) -> {value} {{ {text} }}")
        lines.append(f"fn save(at: i32, value: {widened(out)}) {{ out[at] = {out}(value); }}")
        body = Template(_read(self.family)).substitute(self.parts)
        return "\n".join([*lines, _read("common"), body])


def widened(kind: str) -> str:
    """What kernels compute with, for elements that are stored as `kind`."""
    return kind.replace("f16", "f32")


def computed(dtype: DType) -> str:
    """What kernels compute with, for elements of `dtype`."""
    return widened(STORED[dtype])


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
    axes = axes or [(1, (0,) * len(strides))]
    sizes = tuple(size for size, _ in axes)
    return sizes, tuple(tuple(s[i] for _, s in axes) for i in range(len(strides)))


def walk(parameters: Parameters, number: str, shape: Shape, **strides: Shape) -> str:
    """Statements that turn the flat `number` into the place of each named operand.

    `place` begins where the output does, `atK` where input K does, other names at 0. The divisions
    are unsigned: signed ones are guarded against -2^31 / -1 and cost several times as much.
    """
    shape, steps = collapsed(shape, *strides.values())
    lines = [f"var rest_{number} = u32({number});"]
    lines += [f"var {name} = {_BEGINS.get(name, '0')};" for name in strides]
    for axis in reversed(range(len(shape))):
        at, rest = f"{number}_{axis}", f"rest_{number}"
        if axis:
            size = f"u32({parameters.add(shape[axis])})"
            lines += [f"let {at} = i32({rest} % {size});", f"{rest} /= {size};"]
        else:
            lines.append(f"let {at} = i32({rest});")
        for name, step in zip(strides, steps, strict=True):
            lines.append(f"{name} += {at} * {parameters.add(step[axis])};")
    return indented(lines)


def indented(lines: Sequence[str]) -> str:
    """Statements of a function's body."""
    return "\n".join(f"    {line}" for line in lines)


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

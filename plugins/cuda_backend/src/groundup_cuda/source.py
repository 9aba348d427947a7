"""CUDA source of a kernel: a template, the places of its operands, and the numbers it is given.

Shapes and strides are parameters, not text, so one kernel serves all shapes of a rank. The first
parameters are the addresses of the output and of the inputs, known when memory is bound.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Final

import attrs

from groundup.dtypes import DType
from groundup.errors import UnsupportedOp
from groundup.shapes import Shape
from groundup_cuda.expressions import STORED, computed

THREADS: Final = 256
OUT: Final = -1  # in place of an input's position: the op's output
SCRATCH: Final = -2  # the workspace
_LIMIT: Final = 512  # parameters; CUDA passes 4096 bytes
_LAST: Final = 2**31 - 1 - 2**16  # what an int can count to, with room for the threads of a grid


class Parameters:
    """Numbers that a kernel is given; `add` and `number` return the text that reads one."""

    def __init__(self, operands: int) -> None:
        self.values = [0] * operands  # the addresses come here

    def add(self, value: int) -> str:
        """The expression of one more integer."""
        self.values.append(int(value))
        return f"p.v[{len(self.values) - 1}]"

    def number(self, value: float, kind: str) -> str:
        """The expression of a number of the C++ type `kind`; floats travel as doubles."""
        floating = kind in ("float", "double")
        bits = struct.unpack("<q", struct.pack("<d", value))[0] if floating else int(value)
        return f"number<{kind}>({self.add(bits)})"


@attrs.frozen(eq=False)
class Stage:
    """One launch: its source and name, its parameters, its operands (first what it writes), how
    many blocks of THREADS.
    """

    name: str
    source: str
    parameters: tuple[int, ...]
    operands: tuple[int, ...]
    blocks: int
    offset: int = 0  # bytes from the beginning of what it writes


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
    parameters: Parameters, number: str, shape: Shape, operands: Sequence[tuple[str, Shape]]
) -> str:
    """Statements that split the flat `number` into coordinates and sum each operand's place.

    `operands` are (variable, strides). A stride of 0 or 1 along the only axis is text.
    """
    if len(shape) == 1:
        steps = {0: "0", 1: number}
        return _lines(
            f"const Index {name} = {steps.get(s) or f'{number} * (Index){parameters.add(s)}'};"
            for name, (s,) in operands
        )
    lines = [f"Index rest_{number} = {number};"]
    lines += [f"Index {name} = 0;" for name, _ in operands]
    for axis in reversed(range(len(shape))):
        coordinate = f"c_{number}_{axis}"
        if axis:
            size = f"(Index){parameters.add(shape[axis])}"
            lines.append(f"const Index {coordinate} = rest_{number} % {size};")
            lines.append(f"rest_{number} /= {size};")
        else:
            lines.append(f"const Index {coordinate} = rest_{number};")
        lines += [
            f"{name} += {coordinate} * (Index){parameters.add(strides[axis])};"
            for name, strides in operands
        ]
    return _lines(lines)


def letters(inputs: Sequence[DType]) -> str:
    """Statements that load input k from place `atk` into the variable a, b or c."""
    return _lines(
        f"const {computed(dtype)} {letter} = load(((const {STORED[dtype]} *)p.v[{k + 1}])[at{k}]);"
        for k, (letter, dtype) in enumerate(zip("abc", inputs, strict=False))
    )


def stage(
    family: str,
    op: str,
    parameters: Parameters,
    operands: Sequence[int],
    threads: int,
    reach: int,
    **parts: str,
) -> Stage:
    """A stage from the template `kernels/<family>.cu`, for at least `threads` threads.

    `reach` is the largest number that indices come to: 32 bits are used where they suffice.
    """
    count = len(parameters.values)
    if count > _LIMIT:
        raise UnsupportedOp(f"{op}: a kernel of {count} parameters; CUDA allows {_LIMIT}")
    index_type = "int" if max(reach, threads) <= _LAST else "long long"
    body = Template(_read(family)).safe_substitute(parts, index_type=index_type, count=str(count))
    label = "".join(c if c.isalnum() else "_" for c in op)
    name = f"{family}_{label}_{hashlib.sha256(body.encode()).hexdigest()[:8]}"
    body = Template(body).substitute(name=name)
    return Stage(name, body, tuple(parameters.values), tuple(operands), -(-threads // THREADS))


def extent(shape: Shape, strides: Shape) -> int:
    """The largest distance from its beginning that a view reaches, either way."""
    return sum(max(n - 1, 0) * abs(s) for n, s in zip(shape, strides, strict=True))


def prelude() -> str:
    """What every kernel's source begins with."""
    return _read("common")


def numbered(source: str) -> str:
    """The source with line numbers, for messages."""
    return "\n".join(f"{i:4} {line}" for i, line in enumerate(source.splitlines(), 1))


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


@cache
def _read(name: str) -> str:
    return files("groundup_cuda").joinpath("kernels", f"{name}.cu").read_text("utf-8")

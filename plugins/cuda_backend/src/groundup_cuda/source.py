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

from groundup.layout import Layout
from groundup.shapes import Shape

THREADS: Final = 256
WARP: Final = 32
# What keeps a GPU busy: threads, and blocks that take much each, two for each of an H100's 132
# processors. The same on every GPU, for they decide how sums are cut, and so their order.
BUSY, BUSY_BLOCKS = 1 << 17, 264
SCRATCH, OUT = -1, -2  # in place of an input's position; output k is OUT - k
_LAST: Final = 2**31 - 2**17  # what an int can count to, with room for the threads of a grid


class Parameters:
    """Numbers that a kernel is given; `add` and `number` return the text that reads one."""

    def __init__(self, operands: int) -> None:
        self.values = [0] * operands  # the addresses come here

    def add(self, value: int) -> str:
        """The expression of one more integer."""
        self.values.append(value)
        return f"p.v[{len(self.values) - 1}]"

    def number(self, value: float, kind: str) -> str:
        """The expression of a number of the C++ type `kind`; floats travel as doubles."""
        if kind in ("float", "double"):
            (value,) = struct.unpack("<q", struct.pack("<d", value))
        return f"number<{kind}>({self.add(int(value))})"


@attrs.frozen(eq=False)
class Stage:
    """One launch. `operands`: whose addresses the parameters begin with, first what it writes.
    `shared`: bytes of `extern __shared__` memory of a block. `copies`: it copies its second operand
    to its first, and is left out where both are one memory.
    """

    name: str
    source: str
    parameters: tuple[int, ...]
    operands: tuple[int, ...]
    blocks: int
    threads: int = THREADS
    shared: int = 0
    copies: bool = False


def stage(
    family: str, op: str, parameters: Parameters, operands: Sequence[int], threads: int,
    layouts: Iterable[Layout], **parts: str,
) -> Stage:  # fmt: skip
    """A stage from `kernels/<family>.cu`. It counts in 32 bits where `layouts` allow it."""
    reach = max(threads, *[x.size + extent(x.shape, x.strides) for x in layouts])
    parts["index_type"] = "int" if reach <= _LAST else "long long"
    parts["count"] = str(len(parameters.values))
    body = Template(read(family)).safe_substitute(parts)
    kind = family.rpartition("/")[2]
    name = f"{kind}_{op}_{hashlib.sha256(body.encode()).hexdigest()[:8]}"
    body = Template(body).substitute(name=name)
    return Stage(name, body, tuple(parameters.values), tuple(operands), -(-threads // THREADS))


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
    """Statements that turn the flat `number` into the place of each named operand."""
    shape, steps = collapsed(shape, *strides.values())
    if len(shape) == 1:
        known = {0: "0", 1: number}
        text = [known.get(s) or f"{number} * (Index){parameters.add(s)}" for (s,) in steps]
        return _lines(f"const Index {n} = {t};" for n, t in zip(strides, text, strict=True))
    lines = [f"Index rest_{number} = {number}, {' = 0, '.join(strides)} = 0;"]
    for axis in reversed(range(len(shape))):
        size, at = f"(Index){parameters.add(shape[axis])}", f"c_{number}_{axis}"
        lines.append(f"const Index {at} = rest_{number}{f' % {size}' if axis else ''};")
        lines += [f"rest_{number} /= {size};"] if axis else []
        for name, step in zip(strides, steps, strict=True):
            lines.append(f"{name} += {at} * (Index){parameters.add(step[axis])};")
    return _lines(lines)


def without(axis: int, sizes: Shape) -> Shape:
    """A shape, or strides, with one axis less."""
    return sizes[:axis] + sizes[axis + 1 :]


def extent(shape: Shape, strides: Shape) -> int:
    """The largest distance from its beginning that a view reaches, either way."""
    return sum(max(n - 1, 0) * abs(s) for n, s in zip(shape, strides, strict=True))


def prelude() -> str:
    """What every kernel's source begins with."""
    return f"{read('common')}\n{read('groups')}"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


@cache
def read(name: str) -> str:
    """The text of `kernels/<name>.cu`."""
    return files("groundup_cuda").joinpath("kernels", f"{name}.cu").read_text("utf-8")

"""WGSL source of a kernel: a template, the places of its operands, and the parameters it reads.

Shapes, strides and offsets are parameters, not text, so one pipeline serves all shapes of a rank.
The first parameters are the offsets of the output and of the inputs, known when memory is bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Final, TypeAlias

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
# Where an operand of a stage lies: a buffer by number, or a part of one. Equal for what is there
# together.
Place: TypeAlias = int | tuple[int, int]


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
    `written` of them are written, the others only read. `includes` are templates of functions that
    `family` calls. `aligned` is a quicker stage for memory at multiples of `VECTOR` bytes. A stage
    that `copies` its second operand to its first is left out where both are one memory.
    """

    family: str
    parts: Mapping[str, str]
    parameters: tuple[int, ...]
    operands: tuple[tuple[int, str], ...]
    groups: tuple[int, int, int]
    scratch: int = 0  # bytes of workspace that it writes
    aligned: Stage | None = None
    written: int = 1
    includes: tuple[str, ...] = ()
    copies: bool = False
    _texts: dict[tuple[Place, ...], str] = attrs.field(factory=dict, init=False)

    def bindings(self, places: Sequence[Place]) -> tuple[list[tuple[int, str]], list[int]]:
        """Which operands have a binding of their own, of which kind; and which one each uses.

        WebGPU refuses a buffer that is read beside being written, so all that lies in a written
        buffer goes through one binding. Elements of another width need another one, which is bound
        as if it were written too; those must not overlap, so such a buffer comes in parts.
        """
        changed = {_buffer(place) for place in places[: self.written]}
        own: list[tuple[int, str]] = []
        known: dict[tuple[object, ...], int] = {}
        used = []
        for i, (_, kind) in enumerate(self.operands):
            shared = _buffer(places[i]) in changed
            key = (places[i], *width(kind)) if shared else (i,)
            if key not in known:
                known[key] = len(own)
                own.append((i, "storage" if shared else "read-only-storage"))
            used.append(known[key])
        return own, used

    def source(self, places: Sequence[Place]) -> str:
        """The WGSL for such memory: bindings, `loadK` of inputs, `saveK` of outputs, the
        template.

        The first output has the binding `out` and the function `save`. Made once and kept.
        """
        key = tuple(places)
        if key not in self._texts:
            self._texts[key] = self._source(key)
        return self._texts[key]

    def _source(self, places: Sequence[Place]) -> str:
        half = any("f16" in kind for _, kind in self.operands)
        lines = ["enable f16;"] if half else []
        own, used = self.bindings(places)
        for binding, (i, access) in enumerate(own):
            mode = "read" if access.startswith("read") else "read_write"
            kind = f"array<{self.operands[i][1]}>"
            lines.append(
                f"@group(0) @binding({binding}) var<storage, {mode}> {_memory(binding)}: {kind};"
            )
        count = -(-len(self.parameters) // 4)
        lines.append(
            f"@group(0) @binding({len(own)}) var<uniform> params: array<vec4<i32>, {count}>;"
        )
        for i, (_, kind) in enumerate(self.operands):
            bound = self.operands[own[used[i]][0]][1]
            lines.append(self._access(i, f"{_memory(used[i])}[at]", kind, bound))
        texts = [fragment(name, self.parts) for name in (*self.includes, self.family)]
        return unrolled("\n".join([*lines, _read("common"), *texts]))

    def _access(self, i: int, element: str, kind: str, bound: str) -> str:
        """The function that reads or writes operand `i`, an `element` of a binding of `bound`."""
        value = widened(kind)
        if i < self.written:
            stored = "value" if kind == value else f"{kind}(value)"
            stored = stored if kind == bound else f"bitcast<{bound}>({stored})"
            return f"fn save{i or ''}(at: i32, value: {value}) {{ {element} = {stored}; }}"
        found = element if kind == bound else f"bitcast<{kind}>({element})"
        return f"fn load{i - self.written}(at: i32) -> {value} {{ return {value}({found}); }}"


def width(kind: str) -> tuple[bool, bool]:
    """Elements that are alike in it can be read and written through one binding."""
    return "f16" in kind, "vec" in kind


def _buffer(place: Place) -> int:
    return place if isinstance(place, int) else place[0]


def _memory(binding: int) -> str:
    return f"memory{binding}" if binding else "out"


def fragment(name: str, parts: Mapping[str, str]) -> str:
    """A template that is a part of another one."""
    return Template(_read(name)).substitute(parts)


_REPEAT: Final = re.compile(r"\s*// repeat (\w+) (\d+)$")


def unrolled(source: str) -> str:
    """Lines between `// repeat NAME COUNT` and `// end`, COUNT times with 0, 1, ... for {NAME}.

    What a thread keeps in registers has a name each: an indexed array would lie in memory.
    """
    blocks: list[tuple[str, int, list[str]]] = [("", 1, [])]
    for line in source.splitlines():
        begins = _REPEAT.match(line)
        if begins:
            blocks.append((begins[1], int(begins[2]), []))
        elif line.strip() == "// end":
            name, count, body = blocks.pop()
            for i in range(count):
                blocks[-1][2].extend(each.replace(f"{{{name}}}", str(i)) for each in body)
        else:
            blocks[-1][2].append(line)
    ((_, _, lines),) = blocks
    return "\n".join(lines)


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


def walk(
    parameters: Parameters, number: str, shape: Shape, written: int = 1, **strides: Shape
) -> str:
    """Statements that turn the flat `number` into the place of each named operand.

    `place` begins where the first of the `written` outputs does, `atK` where input K does, other
    names at 0. The divisions
    are unsigned: signed ones are guarded against -2^31 / -1 and cost several times as much.
    """
    shape, steps = collapsed(shape, *strides.values())
    lines = [f"var rest_{number} = u32({number});"]
    lines += [f"var {name} = {_begin(name, written)};" for name in strides]
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


def _begin(name: str, written: int) -> str:
    if name == "place":
        return "param(0u)"
    found = re.fullmatch(r"at(\d+)", name)
    return f"param({written + int(found[1])}u)" if found else "0"


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

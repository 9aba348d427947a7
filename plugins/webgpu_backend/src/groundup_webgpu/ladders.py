"""Ladders: an op from its formula to a fast kernel, an idea at a time, and what each is worth.

All rungs compute the same. `LADDERS` has, for the name of each ladder, a function from op and
layouts to its rungs; `kernels/ladder/` has the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import takewhile
from typing import Final, TypeAlias

import attrs

from groundup.backends.api import Kernel
from groundup.layout import Layout
from groundup.ops.op import Op
from groundup_webgpu.contraction import blocks
from groundup_webgpu.device import WebGpuDevice, WebGpuKernel
from groundup_webgpu.products import in_one_piece
from groundup_webgpu.sides import product_of
from groundup_webgpu.source import OUT, STORED, WORKGROUP, Parameters, Stage, spread
from groundup_webgpu.tiles import GUESSED

Layouts: TypeAlias = Sequence[Layout]


@attrs.frozen(eq=False)
class Rung:
    """Its dispatches, and `kernels/<family>.wgsl`, whose head tells the idea."""

    name: str  # "2 tiles"
    family: str
    stages: Sequence[Stage]
    inputs: Layouts
    out: Layout

    @property
    def idea(self) -> str:
        """The first paragraph of the file."""
        file = files("groundup_webgpu").joinpath("kernels", f"{self.family}.wgsl")
        lines = takewhile(lambda line: line.startswith("// "), file.read_text("utf-8").splitlines())
        return " ".join(line.removeprefix("// ") for line in lines)

    def kernel(self, device: WebGpuDevice, op: Op) -> Kernel:
        """On a device; `op` is the one that the rung computes."""
        return WebGpuKernel(device, op, self.inputs, self.out, self.stages)


def matmul_rungs(op: Op, inputs: Layouts, outputs: Layouts) -> Iterator[Rung]:
    """Of matmul, for row-major matrices of floats that are not empty and begin at multiples of 16
    bytes, summed over at most 32768 terms: Mesa's software driver leaves loops after 65,535 turns.

    Those on vectors are only there where inner and columns are multiples of four.
    """
    x, y = inputs
    (rows, inner), columns = x.shape, y.shape[1]
    kind = STORED[x.dtype]

    def made(name: str, size: int, each: int, kind: str) -> Rung:
        """Blocks of `size` x `size` numbers, of which a workgroup makes `each`."""
        parameters = Parameters(3)
        across = -(-columns // size)
        sizes = {"rows": rows, "inner": inner, "columns": columns, "across": across}
        parts = {key: parameters.add(value) for key, value in sizes.items()}
        groups = spread(-(-rows // size) * across, each)
        memory = ((OUT, kind), (1, kind), (2, kind))
        family = f"ladder/matmul_{name.replace(' ', '_')}"
        stage = Stage(family, parts, tuple(parameters.values), memory, groups)
        return Rung(name, family, [stage], inputs, outputs[0])

    yield made("1 naive", 1, WORKGROUP, kind)
    yield made("2 tiles", 16, 1, kind)
    yield made("3 registers", 64, 1, kind)
    if inner % 4 == 0 and columns % 4 == 0:
        yield made("4 vectors", 64, 1, f"vec4<{kind}>")
        yield made("5 buffers", 64, 1, f"vec4<{kind}>")
        product = product_of(x, y)
        tiles = [in_one_piece(product, GUESSED[0].tile)]
        yield Rung("6 blocks", "matmul_blocks", blocks(product), inputs, outputs[0])
        yield Rung("7 in use", "matmul_tiles", tiles, inputs, outputs[0])


LADDERS: Final[Mapping[str, Callable[[Op, Layouts, Layouts], Iterator[Rung]]]] = {
    "matmul": matmul_rungs,
}  # fmt: skip

"""The matrix product from the formula to tensor cores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from groundup import dtypes
from groundup_cuda.expressions import STORED
from groundup_cuda.ladders.rung import Rung, launch, rung
from groundup_cuda.plans import Layouts
from groundup_cuda.source import OUT, THREADS, read

_WITH_TILES = {"3 shared": 16, "4 registers": 128, "5 vectors": 128}


def rungs(op: Any, inputs: Layouts, outputs: Layouts) -> Iterator[Rung]:
    """Of matmul, for row-major matrices of floats that are not empty and begin at multiples of 16
    bytes. The last is only there for 16-bit floats, and runs on Ampere and later.
    """
    (rows, inner), columns = inputs[0].shape, inputs[1].shape[1]

    def made(name: str, blocks: int, headers: str = "") -> Rung:
        family = f"ladder/matmul_{name.replace(' ', '_')}"
        step = launch(
            family, op, (OUT, 0, 1), blocks, (*inputs, *outputs), type=STORED[inputs[0].dtype],
            rows=rows, inner=inner, columns=columns, headers=headers,
        )  # fmt: skip
        return rung(name, family, step)

    def tiles(size: int) -> int:
        return -(-rows // size) * -(-columns // size)

    for name in ("1 naive", "2 coalesced"):
        yield made(name, -(-rows * columns // THREADS))
    for name, size in _WITH_TILES.items():
        yield made(name, tiles(size))
    if inputs[0].dtype is not dtypes.float32:
        yield made("6 tensor", tiles(128), read("tensor_cores"))

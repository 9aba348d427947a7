"""Lines of partial sums, which blocks have left in scratch memory, added up in their order."""

from __future__ import annotations

from math import prod
from typing import Final

from groundup.layout import Layout
from groundup_cuda.expressions import STORED
from groundup_cuda.plans import Layouts
from groundup_cuda.source import SCRATCH, THREADS, Parameters, Stage, stage

_COLUMNS: Final = 8  # of a block: 32 bytes, as much as memory gives at least


def joined_lines(name: str, lines: int, vectors: Layouts, first: int) -> Stage:
    """Scratch lines, each of all `vectors`, to the outputs from `first` on."""
    size, many = prod(vectors[0].shape), len(vectors)
    parameters = Parameters(many + 1)
    operands = [*[first - k for k in range(many)], SCRATCH]
    scratch = Layout((lines, many * size), (many * size, 1), vectors[0].dtype)
    return stage(
        "columns", name, parameters, operands, many * -(-size // _COLUMNS) * THREADS,
        [scratch, *vectors], columns=parameters.add(size), lines=parameters.add(lines),
        vectors=str(many), type=STORED[vectors[0].dtype], tile=str(_COLUMNS),
    )  # fmt: skip

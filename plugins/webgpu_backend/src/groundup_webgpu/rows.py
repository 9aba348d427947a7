"""What kernels over rows share: where rows lie, how many threads do one, numbers or vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from groundup import dtypes
from groundup.layout import Layout
from groundup.shapes import Shape
from groundup_webgpu.machine import Machine
from groundup_webgpu.source import STORED, Parameters, Stage, spread, walk

# Of one of up to four loops of a thread. Mesa's software driver allows 65,535 in all together.
TURNS: Final = 1 << 13
WORKERS: Final = 256  # threads of one workgroup
_EACH: Final = 4  # units that a thread of a GPU has at least before more share the row


@attrs.frozen
class Rows:
    """A tensor as rows along some of its axes: where they begin, and the places along them."""

    lead: Shape
    steps: Shape  # strides from row to row
    width: int
    step: int  # from number to number of a row

    @property
    def count(self) -> int:
        """How many rows there are."""
        return Layout(self.lead, self.steps, dtypes.float32).size

    @property
    def in_vectors(self) -> bool:
        """Whether rows are whole vectors, but for where the memory begins."""
        whole = self.step == 1 and self.width % 4 == 0
        return whole and not any(step % 4 for step in self.steps)


def rows_of(x: Layout, axis: int = -1) -> Rows:
    """The rows of x along one axis."""
    own = axis % x.rank
    others = [a for a in range(x.rank) if a != own]
    lead, steps = (tuple(of[a] for a in others) for of in (x.shape, x.strides))
    return Rows(lead, steps, x.shape[own], x.strides[own])


def lanes_for(rows: int, units: int, in_order: bool, machine: Machine) -> int:
    """How many threads share one of so many rows of `units`: a power of two.

    Where neighbouring numbers of a row are not neighbours in memory, those of rows mostly are.
    """
    wanted = machine.threads // max(rows, 1)
    if in_order and not machine.software:
        wanted = max(wanted, units // _EACH)
    wanted = max(min(wanted, units), -(-units // TURNS), 1)
    return min(WORKERS, 1 << (wanted - 1).bit_length())


def too_wide(units: int) -> bool:
    """Whether a row is more than the threads of one workgroup can do."""
    return units > WORKERS * TURNS


def lane_includes(lanes: int, vector: bool, machine: Machine) -> tuple[str, str]:
    """The templates of what a row kernel calls."""
    shared = "lanes_subgroups" if machine.subgroups else "lanes"
    return "vectors" if vector else "numbers", shared if lanes > 1 else "lanes_alone"


def kind(dtype: dtypes.DType, vector: bool) -> str:
    """How WGSL calls stored elements, one or four."""
    return f"vec4<{STORED[dtype]}>" if vector else STORED[dtype]


def begins(
    parameters: Parameters, written: int, lead: Shape, vector: Sequence[str], **steps: Shape
) -> str:
    """Statements that make each named place (as in `walk`) the beginning of row `i`.

    Those in `vector` count vectors.
    """
    text = walk(parameters, "i", lead, written, **steps)
    return "\n".join([text, *[f"    {name} = {name} / WIDTH;" for name in vector]])


def zeros(target: int, out: Layout) -> Stage:
    """All of a row-major output 0."""
    parameters = Parameters(1)
    zero = parameters.number(0, out.dtype)
    index = "    let place = param(0u) + i;"
    parts = {"size": parameters.add(out.size), "index": index, "value": zero}
    memory = ((target, STORED[out.dtype]),)
    return Stage("map", parts, tuple(parameters.values), memory, spread(out.size, 256))

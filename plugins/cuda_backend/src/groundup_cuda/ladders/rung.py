"""A rung of a ladder: an op by kernels that have one idea more than those of the rung below."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING

import attrs

from groundup.backends.api import Kernel
from groundup.ops.op import Op
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.source import THREADS, Parameters, Stage, read, stage

if TYPE_CHECKING:
    from groundup_cuda.device import CudaDevice


@attrs.frozen(eq=False)
class Rung:
    """Its launches, and `kernels/<family>.cu`, whose head tells the idea."""

    name: str  # "3 shared"
    family: str
    lowered: Lowered

    @property
    def idea(self) -> str:
        """The first paragraph of the file."""
        lines = takewhile(lambda line: line.startswith("// "), read(self.family).splitlines())
        return " ".join(line.removeprefix("// ") for line in lines)

    def stages(self) -> Iterator[Stage]:
        """The launches of kernels of our own."""
        return (step for step in self.lowered.steps if isinstance(step, Stage))

    def kernel(self, device: CudaDevice, op: Op) -> Kernel:
        """On a GPU; `op` is the one that the rung computes."""
        from groundup_cuda.launch import CudaKernel  # needs CuPy

        return CudaKernel(device, op, self.lowered)


def rung(name: str, family: str, *steps: Stage, scratch: int = 0) -> Rung:
    """One that launches `steps`."""
    return Rung(name, family, Lowered(steps, scratch=scratch))


def launch(
    family: str, op: Op, operands: tuple[int, ...], blocks: int, layouts: Layouts,
    **parts: int | float | str,
) -> Stage:  # fmt: skip
    """A launch of `kernels/<family>.cu`: numbers among its `parts` are parameters, others text."""
    parameters = Parameters(len(operands))
    texts = {name: _text(parameters, part) for name, part in parts.items()}
    return stage(family, op.name, parameters, operands, blocks * THREADS, layouts, **texts)


def _text(parameters: Parameters, part: int | float | str) -> str:
    if isinstance(part, str):
        return part
    return parameters.add(part) if isinstance(part, int) else parameters.number(part, "float")

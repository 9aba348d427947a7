"""A program's figures: what a run of it asks of a device."""

from __future__ import annotations

import attrs

from groundup.program.drawing.sheet import cost_of
from groundup.program.executable import Executable


@attrs.frozen
class Figures:
    """Of one run. Flops and bytes are the least that the ops could do, by their own `cost`."""

    launches: int
    views: int  # nodes that move nothing
    flops: int
    bytes: int
    planned: int  # bytes of the arenas
    arenas: int
    largest_live_set: int  # bytes: no plan needs less
    sum_of_values: int  # bytes, if nothing were reused
    captured: int  # bytes that outlive a run: parameters, optimizer state, random states

    @property
    def ratio(self) -> float:
        """The planned bytes by the largest live set: 1 is the best that can be."""
        return self.planned / self.largest_live_set if self.largest_live_set else 1.0


def figures_of(executable: Executable) -> Figures:
    """Nothing is run for them."""
    program, plan = executable.program, executable.plan
    costs = [cost_of(node) for node in executable.sources]
    return Figures(
        launches=len(executable.launches),
        views=sum(node.is_view for node in program.nodes),
        flops=sum(cost.flops for cost in costs),
        bytes=sum(cost.bytes for cost in costs),
        planned=plan.peak,
        arenas=len(plan.arenas),
        largest_live_set=plan.largest_live_set,
        sum_of_values=plan.sum_of_values,
        captured=sum(value.spec.nbytes for value in program.captured),
    )

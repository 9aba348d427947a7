"""Products with few rows or columns on GPUs, as those of a model that writes one word at a time.

All of the other operand is read once, in order, by as many threads for each line as keep the device
busy: kernels over rows, as norms are.
"""

from __future__ import annotations

from typing import Final

import attrs

from groundup_webgpu.machine import Machine
from groundup_webgpu.rows import (
    WORKERS,
    Rows,
    begins,
    kind,
    lane_includes,
    lanes_for,
    too_wide,
)  # fmt: skip
from groundup_webgpu.sides import Product, Side
from groundup_webgpu.source import OUT, Parameters, Stage, spread

_FEW: Final = 4  # lines of the smaller operand at most
_MANY: Final = 64  # lines of the other one at least


def few_lines(product: Product, machine: Machine) -> list[Stage]:
    """The dispatch if one side has few lines, and those of the other lie along the summed axis."""
    few, many = (1, 2) if product.x.lines <= product.y.lines else (2, 1)
    kernel = _FewLines(product, few, many, machine)
    if kernel.few.lines > _FEW or kernel.many.lines < _MANY:
        return []
    if kernel.many.along != 1 or too_wide(product.inner):
        return []
    return [kernel.stage()]


@attrs.frozen
class _FewLines:
    product: Product
    few_operand: int
    many_operand: int
    machine: Machine

    @property
    def few(self) -> Side:
        return self._side(self.few_operand)

    @property
    def many(self) -> Side:
        return self._side(self.many_operand)

    def _side(self, operand: int) -> Side:
        return self.product.x if operand == 1 else self.product.y

    def stage(self) -> Stage:
        made = self._made(vector=False)
        sides = (self.few, self.many)
        whole = self.product.inner % 4 == 0 and all(s.plain and s.in_vectors for s in sides)
        return attrs.evolve(made, aligned=self._made(vector=True)) if whole else made

    def _made(self, vector: bool) -> Stage:
        few, many, product = self.few, self.many, self.product
        lead = (*product.lead, many.lines)
        rows = Rows(lead, (*many.steps, many.across), product.inner, many.along)
        parameters = Parameters(3)
        add = parameters.add
        units = product.inner // 4 if vector else product.inner
        lanes = lanes_for(rows.count, units, True, self.machine)
        unit = 4 if vector else 1
        parts = {
            "lanes": str(lanes), "few": str(few.lines), "rows": add(rows.count),
            "units": add(units), "few_line": add(few.across // unit),
            "few_step": add(1 if vector else few.along), "beside": add(self._beside),
            "index": begins(
                parameters, 1, lead, ("at0", "at1") if vector else (), place=self._places(),
                at0=(*few.steps, 0), at1=rows.steps,
            ),
        }  # fmt: skip
        memory = (
            (OUT, kind(product.dtype, vector=False)),
            (self.few_operand, kind(product.dtype, vector)),
            (self.many_operand, kind(product.dtype, vector)),
        )
        return Stage(
            "matvec", parts, tuple(parameters.values), memory,
            spread(rows.count, WORKERS // lanes),
            includes=lane_includes(lanes, vector, self.machine),
        )  # fmt: skip

    @property
    def _beside(self) -> int:
        """From one of few results to the next one."""
        return self.product.y.lines if self.few_operand == 1 else 1

    def _places(self) -> tuple[int, ...]:
        """Strides of the results, from product to product and along the many lines."""
        x, y = self.product.x, self.product.y
        step, places = x.lines * y.lines, [1 if self.few_operand == 1 else y.lines]
        for size in reversed(self.product.lead):
            places.insert(0, step)
            step *= size
        return tuple(places)

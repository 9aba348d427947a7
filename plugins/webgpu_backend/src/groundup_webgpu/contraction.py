"""Matrix products: which kernel, by what the machine and the shapes are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from groundup.layout import Layout
from groundup_webgpu.machine import Machine
from groundup_webgpu.matvec import few_lines
from groundup_webgpu.products import tiled
from groundup_webgpu.sides import Product, product_of
from groundup_webgpu.source import OUT, STORED, Parameters, Stage, computed, spread, walk, widened

_TILE: Final = 64  # rows and columns of one workgroup
_INNER: Final = 1 << 15  # summed at once: Mesa's software driver leaves loops after 65,535 turns


def matmul(x: Layout, y: Layout, machine: Machine) -> list[Stage]:
    """x @ y for operands that are not empty."""
    product = product_of(x, y)
    if machine.software or not x.dtype.is_floating:
        return blocks(product)
    return few_lines(product, machine) or tiled(product, machine)


def blocks(product: Product) -> list[Stage]:
    """Without workgroup memory: one dispatch, or more over as many terms as a loop can take."""
    return [
        _Blocks(product, start, min(_INNER, product.inner - start)).stage()
        for start in range(0, product.inner, _INNER)
    ]


@attrs.frozen
class _Blocks:
    """Each thread has a block of 8 x 8, and none waits for another: for processors, and for
    integers. Over `inner` terms from `start`; later ones are added to the first.
    """

    product: Product
    start: int
    inner: int

    def stage(self) -> Stage:
        """For any strides; with a quicker one, where only offsets can forbid it."""
        x, y, dtype = self.product.x, self.product.y, self.product.dtype
        parameters, parts = self._common()
        for name, side in (("x", x), ("y", y)):
            parts[f"{name}_line"] = parameters.add(side.across)
            parts[f"{name}_inner"] = parameters.add(side.along)
        made = self._made("matmul", parameters, parts, STORED[dtype])
        whole = self.inner % 4 == 0 and y.lines % 4 == 0
        if not (dtype.is_floating and whole and x.in_vectors and y.in_vectors):
            return made
        return attrs.evolve(made, aligned=self._vectors())

    def _vectors(self) -> Stage:
        """For operands in vectors at offsets that are multiples of one."""
        parameters, parts = self._common()
        add = parameters.add
        for name, side in (("x", self.product.x), ("y", self.product.y)):
            parts[f"{name}_turn"] = "" if side.plain == (name == "x") else "transpose"
            parts[f"{name}_shift"] = "0u" if side.plain else "2u"
            parts[f"{name}_line"] = add(side.across // 4 if side.plain else 1)
            parts[f"{name}_inner"] = add(0 if side.plain else side.along // 4)
            parts[f"{name}_step"] = add(1 if side.plain else side.along)
        kind = f"vec4<{STORED[self.product.dtype]}>"
        return self._made("matmul_blocks", parameters, parts, kind)

    def _common(self) -> tuple[Parameters, dict[str, str]]:
        """Sizes, and where each product begins, in elements."""
        x, y = self.product.x, self.product.y
        parameters = Parameters(3)
        add = parameters.add
        parts = {
            "index": walk(parameters, "i", self.product.lead, at0=x.steps, at1=y.steps),
            "rows": add(x.lines), "inner": add(self.inner), "columns": add(y.lines),
            "type": computed(self.product.dtype),
        }  # fmt: skip
        if self.start:
            at0, at1 = (add(self.start * side.along) for side in (x, y))
            parts["index"] += f"\n    at0 += {at0};\n    at1 += {at1};"
        return parameters, parts

    def _made(
        self, family: str, parameters: Parameters, parts: Mapping[str, str], kind: str
    ) -> Stage:
        stored = f"{widened(kind)}(out[at]) + value" if self.start else "value"
        x, y, batch = self.product.x, self.product.y, self.product.batch
        across, down = -(-y.lines // _TILE), -(-x.lines // _TILE)
        counts = {"across": across, "down": down, "lead": batch}
        texts = {name: parameters.add(count) for name, count in counts.items()}
        groups = spread(across * down * batch, 1)
        memory = ((OUT, kind), (1, kind), (2, kind))
        every = {**parts, **texts, "stored": stored}
        return Stage(family, every, tuple(parameters.values), memory, groups)

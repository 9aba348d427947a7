"""Matrix products: strided operands of any rank, and blocks of vectors where the layouts allow."""

from __future__ import annotations

from math import prod
from typing import Final

import attrs

from groundup import dtypes
from groundup.layout import Layout
from groundup.shapes import Shape, broadcast_shapes
from groundup_webgpu.source import OUT, STORED, Parameters, Stage, computed, spread, walk, widened

_TILE: Final = 64  # rows and columns of one workgroup
_INNER: Final = 1 << 15  # summed at once: Mesa's software driver leaves loops after 65,535 turns


def matmul(x: Layout, y: Layout) -> list[Stage]:
    """x @ y for operands that are not empty, as sums of so many terms that a loop can take."""
    (x_shape, x_strides), (y_shape, y_strides) = _as_matrix(x, 0), _as_matrix(y, 1)
    lead = broadcast_shapes(x_shape[:-2], y_shape[:-2])
    left = _Side(x_shape[-2], x_strides[-2], x_strides[-1], _steps(x_shape, x_strides, lead))
    right = _Side(y_shape[-1], y_strides[-1], y_strides[-2], _steps(y_shape, y_strides, lead))
    inner = x_shape[-1]
    return [
        _Product(x.dtype, left, right, lead, start, min(_INNER, inner - start)).stage()
        for start in range(0, inner, _INNER)
    ]


@attrs.frozen
class _Side:
    """An operand: its rows, if it is the left one, or columns; the strides across and along the
    summed axis; and from product to product.
    """

    lines: int
    across: int
    along: int
    steps: Shape

    @property
    def plain(self) -> bool:
        """Whether a vector of four holds neighbours on the summed axis."""
        return self.along == 1 and self.across % 4 == 0

    @property
    def in_vectors(self) -> bool:
        """Whether all that is read are whole vectors."""
        turned = self.across == 1 and self.along % 4 == 0 and self.lines % 4 == 0
        return (self.plain or turned) and not any(step % 4 for step in self.steps)


@attrs.frozen
class _Product:
    """`lead` many products, over `inner` terms from `start`; later ones are added to the first."""

    dtype: dtypes.DType
    x: _Side
    y: _Side
    lead: Shape
    start: int
    inner: int

    def stage(self) -> Stage:
        """For any strides; with a quicker one, where only offsets can forbid it."""
        parameters, parts = self._common()
        for name, side in (("x", self.x), ("y", self.y)):
            parts[f"{name}_line"] = parameters.add(side.across)
            parts[f"{name}_inner"] = parameters.add(side.along)
        made = self._made("matmul", parameters, parts, STORED[self.dtype])
        whole = self.inner % 4 == 0 and self.y.lines % 4 == 0
        if not (self.dtype.is_floating and whole and self.x.in_vectors and self.y.in_vectors):
            return made
        return attrs.evolve(made, aligned=self._blocks())

    def _blocks(self) -> Stage:
        """For operands in vectors at offsets that are multiples of one."""
        parameters, parts = self._common()
        add = parameters.add
        for name, side in (("x", self.x), ("y", self.y)):
            parts[f"{name}_turn"] = "" if side.plain == (name == "x") else "transpose"
            parts[f"{name}_shift"] = "0u" if side.plain else "2u"
            parts[f"{name}_line"] = add(side.across // 4 if side.plain else 1)
            parts[f"{name}_inner"] = add(0 if side.plain else side.along // 4)
            parts[f"{name}_step"] = add(1 if side.plain else side.along)
        return self._made("matmul_blocks", parameters, parts, f"vec4<{STORED[self.dtype]}>")

    def _common(self) -> tuple[Parameters, dict[str, str]]:
        """Sizes, and where each product begins, in elements."""
        parameters = Parameters(3)
        add = parameters.add
        parts = {
            "index": walk(parameters, "i", self.lead, at0=self.x.steps, at1=self.y.steps),
            "rows": add(self.x.lines), "inner": add(self.inner), "columns": add(self.y.lines),
            "type": computed(self.dtype),
        }  # fmt: skip
        if self.start:
            at0, at1 = (add(self.start * side.along) for side in (self.x, self.y))
            parts["index"] += f"\n    at0 += {at0};\n    at1 += {at1};"
        return parameters, parts

    def _made(self, family: str, parameters: Parameters, parts: dict[str, str], kind: str) -> Stage:
        parts["stored"] = f"{widened(kind)}(out[at]) + value" if self.start else "value"
        across, down, lead = -(-self.y.lines // _TILE), -(-self.x.lines // _TILE), prod(self.lead)
        for name, count in (("across", across), ("down", down), ("lead", lead)):
            parts[name] = parameters.add(count)
        groups = spread(across * down * lead, 1)
        memory = ((OUT, kind), (1, kind), (2, kind))
        return Stage(family, parts, tuple(parameters.values), memory, groups)


def _as_matrix(layout: Layout, side: int) -> tuple[Shape, Shape]:
    """Shape and strides; a vector is a row on the left and a column on the right."""
    if layout.rank > 1:
        return layout.shape, layout.strides
    if side == 0:
        return (1, *layout.shape), (0, *layout.strides)
    return (*layout.shape, 1), (*layout.strides, 0)


def _steps(shape: Shape, strides: Shape, lead: Shape) -> Shape:
    """Strides from product to product, 0 where an operand is used again."""
    own = tuple(0 if n == 1 else s for n, s in zip(shape[:-2], strides[:-2], strict=True))
    return (0,) * (len(lead) - len(own)) + own

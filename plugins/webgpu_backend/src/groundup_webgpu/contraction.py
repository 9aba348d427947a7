"""Matrix products: strided operands of any rank, and blocks of vectors where the layouts allow."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Final

import attrs

from groundup import dtypes
from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup.shapes import Shape
from groundup_webgpu.source import WGSL, Parameters, Stage, collapsed, places, stage

_TILE: Final = 64  # rows and columns of one workgroup
_BATCHES: Final = 65535  # the third dimension of a dispatch
_INNER: Final = 1 << 15  # summed at once: Mesa's software driver leaves loops after 65,535 turns
_Side = tuple[int, int]  # strides across the summed axis and along it


def matmul(x: Layout, y: Layout) -> list[Stage] | Declined:
    """x @ y for operands that are not empty."""
    (x_shape, x_strides), (y_shape, y_strides) = _as_matrix(x, 0), _as_matrix(y, 1)
    rank = max(len(x_shape), len(y_shape)) - 2
    x_lead, y_lead = (_padded(shape[:-2], rank, 1) for shape in (x_shape, y_shape))
    lead = tuple(map(max, x_lead, y_lead))
    if prod(lead) > _BATCHES:
        return Declined(f"more than {_BATCHES:,} products at once ({prod(lead):,})")
    steps = tuple(
        tuple(0 if n == 1 else s for n, s in zip(own, _padded(strides[:-2], rank, 0), strict=True))
        for own, strides in ((x_lead, x_strides), (y_lead, y_strides))
    )
    product = _Product(
        (x_shape[-2], x_shape[-1], y_shape[-1]), lead, steps,
        (x_strides[-2], x_strides[-1]), (y_strides[-1], y_strides[-2]),
    )  # fmt: skip
    vectors = x.dtype is dtypes.float32 and product.in_vectors
    stages = []
    for piece in product.pieces():
        plain = piece.stage(WGSL[x.dtype])
        stages.append(attrs.evolve(plain, aligned=piece.blocks()) if vectors else plain)
    return stages


@attrs.frozen
class _Product:
    """Products of (rows, inner) by (inner, columns), `lead` of them, at `steps` of each operand."""

    sizes: tuple[int, int, int]  # rows, inner, columns
    lead: Shape
    steps: tuple[Shape, ...]
    x: _Side
    y: _Side
    start: int = 0  # on the summed axis; a later piece is added to what is there

    def pieces(self) -> Iterator[_Product]:
        """The product as sums of so many terms that a loop can take."""
        rows, inner, columns = self.sizes
        for start in range(0, inner, _INNER):
            sizes = (rows, min(_INNER, inner - start), columns)
            yield attrs.evolve(self, sizes=sizes, start=start)

    def stage(self, kind: str) -> Stage:
        """For any strides."""
        parameters, parts = self._parameters(1)
        add = parameters.add
        parts |= {"x_row": add(self.x[0]), "x_inner": add(self.x[1])}
        parts |= {"y_column": add(self.y[0]), "y_inner": add(self.y[1]), "type": kind}
        operands = [(0, kind), (1, kind)]
        return stage("matmul", parameters, operands, kind, self._groups(), "out", **parts)

    @property
    def in_vectors(self) -> bool:
        """Whether all lines that are read and written are whole vectors of four."""
        rows, inner, columns = self.sizes
        steps = [step for each in self.steps for step in each]
        return (
            not any(n % 4 for n in (inner, columns, *steps))
            and (_along(self.x) or (_across(self.x) and rows % 4 == 0))
            and (_along(self.y) or _across(self.y))
        )

    def blocks(self) -> Stage:
        """For `in_vectors` at offsets that are multiples of a vector."""
        parameters, parts = self._parameters(4)
        add = parameters.add
        for name, (across, along) in (("x", self.x), ("y", self.y)):
            plain = _along((across, along))  # a vector holds one line's neighbours on that axis
            parts[f"{name}_turn"] = "" if plain == (name == "x") else "transpose"
            parts[f"{name}_shift"] = "0u" if plain else "2u"
            parts[f"{name}_line"] = add(across // 4 if plain else 1)
            parts[f"{name}_inner"] = add(0 if plain else along // 4)
            parts[f"{name}_step"] = add(1 if plain else along)
        operands = [(0, "vec4<f32>"), (1, "vec4<f32>")]
        groups = self._groups()
        return stage("matmul_blocks", parameters, operands, "vec4<f32>", groups, "out", **parts)

    def _parameters(self, width: int) -> tuple[Parameters, dict[str, str]]:
        """Sizes, and where each product begins, in units of `width` elements."""
        parameters = Parameters(3)
        shape, steps = collapsed(self.lead, *self.steps)
        scale = "" if width == 1 else " >> 2u"
        operands = [
            (
                f"at{side}",
                f"(param({side + 1}u){scale}) + {parameters.add(self.start * along // width)}",
                tuple(s // width for s in steps[side]),
            )
            for side, (_, along) in enumerate((self.x, self.y))
        ]
        parts = {"index": places(parameters, "i", shape, operands), "place": "param(0u)"}
        parts["stored"] = "out[at] + value" if self.start else "value"
        for name, size in zip(("rows", "inner", "columns"), self.sizes, strict=True):
            parts[name] = parameters.add(size)
        return parameters, parts

    def _groups(self) -> tuple[int, int, int]:
        rows, _, columns = self.sizes
        return -(-columns // _TILE), -(-rows // _TILE), prod(self.lead)


def _along(side: _Side) -> bool:
    """Lines along the summed axis."""
    return side[1] == 1 and side[0] % 4 == 0


def _across(side: _Side) -> bool:
    """Lines across it."""
    return side[0] == 1 and side[1] % 4 == 0


def _as_matrix(layout: Layout, side: int) -> tuple[Shape, Shape]:
    """Shape and strides; a vector is a row on the left and a column on the right."""
    if layout.rank > 1:
        return layout.shape, layout.strides
    if side == 0:
        return (1, *layout.shape), (0, *layout.strides)
    return (*layout.shape, 1), (*layout.strides, 0)


def _padded(values: Shape, rank: int, filler: int) -> Shape:
    return (filler,) * (rank - len(values)) + values

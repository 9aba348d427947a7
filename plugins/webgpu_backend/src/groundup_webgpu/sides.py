"""What a matrix product is to its kernels: two operands as lines, and many products at once."""

from __future__ import annotations

import attrs

from groundup import dtypes
from groundup.layout import Layout
from groundup.shapes import Shape, broadcast_shapes
from groundup_webgpu.source import collapsed


@attrs.frozen
class Side:
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
    def turned(self) -> bool:
        """Whether a vector of four holds the same place of neighbouring lines."""
        return self.across == 1 and self.along % 4 == 0 and self.lines % 4 == 0

    @property
    def in_vectors(self) -> bool:
        """Whether all that is read are whole vectors, but for where the memory begins."""
        return (self.plain or self.turned) and not any(step % 4 for step in self.steps)


@attrs.frozen
class Product:
    """`lead` many products x @ y over `inner` terms, into row-major memory."""

    dtype: dtypes.DType
    x: Side
    y: Side
    lead: Shape
    inner: int

    @property
    def batch(self) -> int:
        """How many products there are."""
        return Layout(self.lead, (0,) * len(self.lead), self.dtype).size

    @property
    def size(self) -> int:
        """Elements of all results."""
        return self.batch * self.x.lines * self.y.lines


def product_of(x: Layout, y: Layout) -> Product:
    """x @ y. Products that share their right side, as those of a layer do, become one of more rows
    where the rows of x are evenly spaced.
    """
    (x_shape, x_strides), (y_shape, y_strides) = _as_matrix(x, 0), _as_matrix(y, 1)
    lead = broadcast_shapes(x_shape[:-2], y_shape[:-2])
    left = Side(x_shape[-2], x_strides[-2], x_strides[-1], _steps(x_shape, x_strides, lead))
    right = Side(y_shape[-1], y_strides[-1], y_strides[-2], _steps(y_shape, y_strides, lead))
    if lead and not any(right.steps):
        lines, (steps,) = collapsed((*lead, left.lines), (*left.steps, left.across))
        if len(lines) == 1:
            left = Side(lines[0], steps[0], left.along, ())
            lead, right = (), attrs.evolve(right, steps=())
    return Product(x.dtype, left, right, lead, x_shape[-1])


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

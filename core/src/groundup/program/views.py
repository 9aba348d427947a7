"""The two ops that only programs have: a window on a value, and a value with a window replaced.

Reshapes, permutations, slices and flips all become one kind of window while a function is traced,
so a chain of them is one node, and no pass has to know their names.
"""

from __future__ import annotations

from groundup.errors import ProgramError, ShapeError
from groundup.layout import Layout, Spec
from groundup.ops.accuracy import EXACT
from groundup.ops.op import Op
from groundup.shapes import Shape


class StridedView(Op):
    """The elements of `base` at offset + sum(index * strides), counted in elements of its memory.

    If `base` is a view itself, strides still count its memory's elements, from its first one. Not
    registered: a program's executable makes the view, no kernel runs.
    """

    shape: Shape
    strides: Shape
    offset: int = 0
    name = "view"
    family = "movement"
    accuracy = EXACT
    inputs = ("base",)

    def infer(self, base: Spec) -> Spec:
        """The window's shape."""
        return Spec(self.shape, base.dtype)

    def layout(self, base: Layout) -> Layout:
        """Of the view."""
        return Layout(self.shape, self.strides, base.dtype)

    def check_bounds(self, base: Layout) -> None:
        """Raises ProgramError for a view that reaches outside of `base`."""
        _check_bounds(self.shape, self.strides, self.offset, base)


class PutView(Op):
    """`base` with the elements of its window (see `StridedView`) replaced by those of `value`."""

    shape: Shape
    strides: Shape
    offset: int = 0
    name = "put_view"
    family = "movement"
    accuracy = EXACT
    aliases = {0: 0}  # noqa: RUF012
    inputs = ("base", "value")

    def infer(self, base: Spec, value: Spec) -> Spec:
        """As the base. Raises ShapeError."""
        if value.shape != self.shape or value.dtype is not base.dtype:
            raise ShapeError(f"put_view: a window {self.shape} of {base} cannot hold {value}")
        return base

    def window(self, base: Layout) -> Layout:
        """Of the elements that are replaced."""
        return Layout(self.shape, self.strides, base.dtype)

    def check_bounds(self, base: Layout) -> None:
        """Raises ProgramError for a window that reaches outside of `base`."""
        _check_bounds(self.shape, self.strides, self.offset, base)


def _check_bounds(shape: Shape, strides: Shape, offset: int, base: Layout) -> None:
    if 0 in shape or not base.is_row_major:
        return
    steps = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    low = offset + sum(step for step in steps if step < 0)
    high = offset + sum(step for step in steps if step > 0)
    if low < 0 or high >= base.size:
        raise ProgramError(f"a view of elements {low} to {high} reaches outside of {base!r}")

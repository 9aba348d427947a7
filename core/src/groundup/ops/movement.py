"""Views: reshape, permute, expand, slice, flip move no data; and the copies that end a view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from groundup import dtypes as dt
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Layout, Spec
from groundup.ops.accuracy import EXACT
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.samples import BadCase, Case, Make
from groundup.shapes import (
    Shape,
    as_integers,
    broadcast_shapes,
    normalize_axes,
    normalize_axis,
    reshape_strides,
    resolve_reshape,
)

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["clone", "contiguous", "expand", "flip", "permute", "reshape"]


class Movement(Op):
    """Values unchanged, any dtype."""

    accuracy = EXACT
    dtypes = (*dt.FLOATS, dt.int32, dt.bool_)


class Reshape(Movement, name="reshape", family="movement"):
    """The same elements in row-major order with another shape. A view unless strides forbid it."""

    shape: Shape

    def infer(self, x: Spec) -> Spec:
        return Spec(resolve_reshape(x.shape, self.shape), x.dtype)

    def view(self, layout: Layout) -> tuple[Layout, int] | None:
        shape = resolve_reshape(layout.shape, self.shape)
        strides = reshape_strides(layout.shape, layout.strides, shape)
        return None if strides is None else (Layout(shape, strides, layout.dtype), 0)

    def compose(self, x: Tensor) -> Tensor:
        return Reshape(shape=self.shape)(x.contiguous())

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        return (grad.reshape(ctx.specs[0].shape),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, old, new in (
            ("flatten", (3, 4, 5), (60,)), ("split", (6, 4), (2, 3, 4)), ("guess", (6, 4), (-1, 8)),
            ("scalar", (1, 1), ()), ("from-scalar", (), (1, 1)), ("empty", (0, 3), (3, 0, 2)),
            ("ones", (3, 4), (1, 3, 1, 4)),
        ):  # fmt: skip
            yield Case(cls(shape=new), (make.normal(*old),), name)
        view = make.normal(4, 6, view=lambda x: x.mT)
        yield Case(cls(shape=(24,)), (view,), "copy", frozenset({"view"}))
        view = make.normal(4, 6, view=lambda x: x[:, ::2])
        yield Case(cls(shape=(2, 2, 3)), (view,), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(shape=(5,)), (make.normal(2, 3),), ShapeError, "cannot make shape (5,)")
        yield BadCase(cls(shape=(-1, -1)), (make.normal(2, 3),), ShapeError, "cannot make shape")


class Permute(Movement, name="permute", family="movement"):
    """Axis i of the result is axis `axes[i]` of x."""

    axes: Shape

    def infer(self, x: Spec) -> Spec:
        axes = self._normal(x)
        return Spec(tuple(x.shape[a] for a in axes), x.dtype)

    def view(self, layout: Layout) -> tuple[Layout, int]:
        axes = self._normal(layout.spec)
        shape = tuple(layout.shape[a] for a in axes)
        return Layout(shape, tuple(layout.strides[a] for a in axes), layout.dtype), 0

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        axes = self._normal(ctx.specs[0])
        return (grad.permute(*[axes.index(i) for i in range(len(axes))]),)

    def _normal(self, x: Spec) -> Shape:
        axes = tuple(normalize_axis(a, x.rank, "permute") for a in self.axes)
        if sorted(axes) != list(range(x.rank)):
            raise ShapeError(f"permute: axes {self.axes} are no order of the axes of {x}")
        return axes

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield Case(cls(axes=(1, 0)), (make.normal(3, 5),), "transpose")
        yield Case(cls(axes=(2, 0, 1)), (make.normal(2, 3, 4),), "rotate")
        yield Case(cls(axes=(0, -1, 1)), (make.normal(2, 3, 4),), "negative")
        yield Case(cls(axes=()), (make.normal(),), "scalar")
        yield Case(cls(axes=(1, 0)), (make.normal(0, 4),), "empty", frozenset({"empty"}))
        view = make.normal(4, 6, view=lambda x: x[::2, 1:])
        yield Case(cls(axes=(1, 0)), (view,), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(axes=(0, 0)), (make.normal(2, 3),), ShapeError, "no order of the axes")
        yield BadCase(cls(axes=(0, 2)), (make.normal(2, 3),), ShapeError, "axis 2 is out of range")


class Expand(Movement, name="expand", family="movement"):
    """Axes of size 1, and new leading axes, repeated without memory (stride 0)."""

    shape: Shape

    def infer(self, x: Spec) -> Spec:
        fits = broadcast_shapes(x.shape, self.shape, op="expand") == self.shape
        if not fits or min(self.shape, default=0) < 0:
            raise ShapeError(f"expand: cannot expand {x.shape} to {self.shape}")
        return Spec(self.shape, x.dtype)

    def view(self, layout: Layout) -> tuple[Layout, int]:
        self.infer(layout.spec)
        new = len(self.shape) - layout.rank
        strides = [0] * new + [
            stride if size == wanted else 0
            for size, wanted, stride in zip(
                layout.shape, self.shape[new:], layout.strides, strict=True
            )
        ]
        return Layout(self.shape, tuple(strides), layout.dtype), 0

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        shape = ctx.specs[0].shape
        new = len(self.shape) - len(shape)
        axes = [a for a in range(len(self.shape)) if a < new or shape[a - new] != self.shape[a]]
        return (grad.sum(axis=tuple(axes)).reshape(shape),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, old, new in (
            ("rows", (1, 4), (3, 4)), ("columns", (3, 1), (3, 4)), ("lead", (4,), (2, 3, 4)),
            ("scalar", (), (2, 3)), ("same", (2, 3), (2, 3)), ("empty", (1, 0), (5, 0)),
        ):  # fmt: skip
            yield Case(cls(shape=new), (make.normal(*old),), name)
        view = make.normal(1, 6, view=lambda x: x[:, ::2].mT)
        yield Case(cls(shape=(2, 3, 4)), (view,), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(shape=(4, 3)), (make.normal(2, 3),), ShapeError, "expand")
        yield BadCase(cls(shape=(3,)), (make.normal(2, 3),), ShapeError, "expand")
        yield BadCase(cls(shape=(-1, 3)), (make.normal(3),), ShapeError, "cannot expand")


class Slice(Movement, name="slice", family="movement"):
    """x[start:stop:step] on every axis, with 0 <= start <= stop <= size and step >= 1."""

    start: Shape
    stop: Shape
    step: Shape

    def infer(self, x: Spec) -> Spec:
        if not len(self.start) == len(self.stop) == len(self.step) == x.rank:
            raise ShapeError(f"slice: needs one start, stop and step per axis of {x}")
        for size, start, stop, step in zip(x.shape, self.start, self.stop, self.step, strict=True):
            if not (0 <= start <= stop <= size and step >= 1):
                raise ShapeError(
                    f"slice: {start}:{stop}:{step} does not fit an axis of {size} in {x}"
                )
        sizes = zip(self.start, self.stop, self.step, strict=True)
        return Spec(tuple(-(-(stop - start) // step) for start, stop, step in sizes), x.dtype)

    def view(self, layout: Layout) -> tuple[Layout, int]:
        shape = self.infer(layout.spec).shape
        strides = tuple(s * step for s, step in zip(layout.strides, self.step, strict=True))
        offset = sum(s * start for s, start in zip(layout.strides, self.start, strict=True))
        return Layout(shape, strides, layout.dtype), offset if 0 not in shape else 0

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        sizes = zip(ctx.specs[0].shape, grad.shape, self.start, self.step, strict=True)
        after = [size - start - max((n - 1) * step + 1, 0) for size, n, start, step in sizes]
        return (grad.pad(self.start, after, interior=[step - 1 for step in self.step]),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        x = make.normal(7, 8)
        yield Case(cls(start=(1, 2), stop=(5, 8), step=(1, 1)), (x,), "inner")
        yield Case(cls(start=(0, 1), stop=(7, 8), step=(2, 3)), (x,), "steps")
        yield Case(cls(start=(3, 0), stop=(3, 8), step=(1, 1)), (x,), "empty", frozenset({"empty"}))
        yield Case(cls(start=(), stop=(), step=()), (make.normal(),), "scalar")
        nothing = cls(start=(0, 1), stop=(0, 3), step=(1, 1))
        yield Case(nothing, (make.normal(0, 4),), "of-nothing", frozenset({"empty"}))
        view = make.normal(8, 7, view=lambda x: x.mT)
        yield Case(
            cls(start=(1, 1), stop=(7, 7), step=(3, 2)), (view,), "view", frozenset({"view"})
        )

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        bad = cls(start=(0,), stop=(9,), step=(1,))
        yield BadCase(bad, (make.normal(4),), ShapeError, "does not fit an axis of 4")
        yield BadCase(bad, (make.normal(4, 4),), ShapeError, "one start, stop and step per axis")


class Flip(Movement, name="flip", family="movement"):
    """The order of elements reversed along `axes` (None: all). A view with negative strides."""

    axes: Shape | None = None

    def infer(self, x: Spec) -> Spec:
        normalize_axes(self.axes, x.rank, "flip")
        return x

    def view(self, layout: Layout) -> tuple[Layout, int]:
        axes = normalize_axes(self.axes, layout.rank, "flip")
        strides = tuple(-s if a in axes else s for a, s in enumerate(layout.strides))
        offset = sum((layout.shape[a] - 1) * layout.strides[a] for a in axes) if layout.size else 0
        return Layout(layout.shape, strides, layout.dtype), offset

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        return (Flip(axes=self.axes)(grad),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield Case(cls(), (make.normal(3, 4),), "all")
        yield Case(cls(axes=(-1,)), (make.normal(3, 4),), "last")
        yield Case(cls(axes=(0,)), (make.normal(0, 4),), "empty", frozenset({"empty"}))
        yield Case(cls(), (make.normal(),), "scalar")
        view = make.normal(4, 6, view=lambda x: x.mT)
        yield Case(cls(axes=(0,)), (view,), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(axes=(2,)), (make.normal(2, 3),), ShapeError, "axis 2 is out of range")


class Contiguous(Movement, name="contiguous", family="movement"):
    """A row-major copy."""

    def infer(self, x: Spec) -> Spec:
        return x

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        return (grad,)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield Case(cls(), (make.normal(3, 4),), "matrix")
        yield Case(cls(), (make.normal(),), "scalar")
        yield Case(cls(), (make.normal(0, 2),), "empty", frozenset({"empty"}))
        for name, view in (
            ("transposed", lambda x: x.mT), ("sliced", lambda x: x[1:, ::2]),
            ("flipped", lambda x: x[::-1]),
        ):  # fmt: skip
            yield Case(cls(), (make.normal(5, 6, view=view),), name, frozenset({"view"}))


class Assign(Movement, name="assign", family="movement"):
    """`value`, in the memory of `target`: how state changes in place. Both have one shape and
    dtype.
    """

    aliases = {0: 0}  # noqa: RUF012
    differentiable = ()

    def infer(self, target: Spec, value: Spec) -> Spec:
        if target.shape != value.shape:
            raise ShapeError(f"assign: target is {target}, value is {value}")
        if target.dtype is not value.dtype:
            hint = f"use value.astype(groundup.{target.dtype})"
            raise DTypeError(f"assign: target is {target}, value is {value}", hint=hint)
        return target

    def cost(self, target: Spec, value: Spec) -> Cost:
        """What `target` held is not read."""
        return Cost(0, value.nbytes + target.nbytes)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        yield Case(cls(), (make.normal(3, 4), make.normal(3, 4)), "matrix")
        yield Case(cls(), (make.normal(), make.normal()), "scalar")
        yield Case(cls(), (make.normal(0, 2), make.normal(0, 2)), "empty", frozenset({"empty"}))
        view = make.normal(4, 3, view=lambda x: x.mT)
        yield Case(cls(), (make.normal(3, 4), view), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        yield BadCase(cls(), (make.normal(3), make.normal(4)), ShapeError, "target is")
        yield BadCase(cls(), (make.normal(3), make.of(dt.uint8, 3)), DTypeError, "target is")


def reshape(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """x in another shape; one size may be -1. Raises ShapeError if the sizes do not match."""
    return Reshape(shape=as_integers(shape, "reshape"))(x)


def permute(x: Tensor, *axes: int | Sequence[int]) -> Tensor:
    """Axis i of the result is axis `axes[i]` of x."""
    return Permute(axes=as_integers(axes, "permute"))(x)


def expand(x: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """x repeated to `shape` without memory; -1 keeps an axis. Raises ShapeError."""
    wanted = as_integers(shape, "expand")
    new = len(wanted) - x.ndim
    sizes = [x.shape[i - new] if s == -1 and i >= new else s for i, s in enumerate(wanted)]
    return Expand(shape=tuple(sizes))(x)


def flip(x: Tensor, axis: int | Sequence[int] | None = None) -> Tensor:
    """Elements in reversed order along `axis` (None: all axes)."""
    return Flip(axes=None if axis is None else as_integers((axis,), "flip"))(x)


def contiguous(x: Tensor) -> Tensor:
    """x itself if it is row-major, else a row-major copy."""
    return x if x._view.layout.is_row_major else Contiguous()(x)


def clone(x: Tensor) -> Tensor:
    """A row-major copy, always."""
    return Contiguous()(x)

"""New tensors from pieces of others: concat, stack, pad, repeat. Values are copied as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING

from groundup import dtypes as dt
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.movement import Movement, Slice
from groundup.ops.op import Ctx
from groundup.ops.samples import BadCase, Case, Make
from groundup.shapes import Shape, normalize_axis

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["concat", "pad", "repeat", "stack"]


class Concat(Movement, name="concat", family="movement"):
    """Tensors one after the other along `axis`; their other sizes and their dtypes are equal."""

    axis: int = 0

    def infer(self, *tensors: Spec) -> Spec:
        first = tensors[0]
        if first.rank == 0:
            raise ShapeError(f"concat: {first} has no axis to join along", hint="use stack")
        axis = normalize_axis(self.axis, first.rank, "concat")
        for spec in tensors[1:]:
            if spec.dtype is not first.dtype:
                raise DTypeError(
                    f"concat: dtypes differ: {first} and {spec}", hint="cast them first"
                )
            if spec.rank != first.rank or _without(spec.shape, axis) != _without(first.shape, axis):
                raise ShapeError(f"concat: {first} and {spec} differ in more than axis {axis}")
        size = sum(spec.shape[axis] for spec in tensors)
        return Spec((*first.shape[:axis], size, *first.shape[axis + 1 :]), first.dtype)

    def compose(self, *tensors: Tensor) -> Tensor:
        """Each is padded to the whole, then they are added. x + -0.0 is x, even for x = -0.0."""
        out = self.infer(*[t.spec for t in tensors])
        axis = self.axis % out.rank
        nothing = -0.0 if out.dtype.is_floating else 0
        placed, start = [], 0
        for t in tensors:
            end = start + t.shape[axis]
            placed.append(
                t.pad(_only(axis, start, out), _only(axis, out.shape[axis] - end, out), nothing)
            )
            start = end
        return reduce(_both, placed) if len(placed) > 1 else placed[0].clone()

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        axis = self.axis % grad.ndim
        grads: list[Tensor | None] = []
        start = 0
        for spec, needed in zip(ctx.specs, ctx.needs, strict=True):
            end = start + spec.shape[axis]
            grads.append(grad[(*[slice(None)] * axis, slice(start, end))] if needed else None)
            start = end
        return tuple(grads)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, axis, shapes in (
            ("first", 0, ((2, 3), (4, 3))), ("last", -1, ((2, 3), (2, 1), (2, 4))),
            ("middle", 1, ((2, 1, 3), (2, 2, 3))), ("single", 0, ((3,),)),
            ("odd", 0, ((513,), (510,))),
            ("empty-piece", 0, ((2, 3), (0, 3), (1, 3))), ("empty", 1, ((0, 3), (0, 2))),
        ):  # fmt: skip
            tags = {"empty"} if "empty" in name else set()
            pieces = tuple(make.normal(*shape) for shape in shapes)
            yield Case(cls(axis=axis), pieces, name, frozenset(tags))
        views = (
            make.normal(5, 3, view=lambda x: x.mT),
            make.normal(6, 9, view=lambda x: x[::2, 2:7]),
        )
        yield Case(cls(), views, "views", frozenset({"view"}))
        if make.dtype.is_floating:
            special = (make.values([float("nan"), -0.0, 0.0]), make.values([float("inf"), -0.0]))
            yield Case(cls(), special, "special", frozenset({"nan", "special"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        pair = (make.normal(2, 3), make.normal(2, 4))
        yield BadCase(cls(axis=0), pair, ShapeError, "differ in more than axis 0")
        yield BadCase(cls(axis=2), pair, ShapeError, "axis 2 is out of range")
        yield BadCase(cls(), (make.normal(), make.normal()), ShapeError, "no axis to join along")
        yield BadCase(cls(), (make.normal(2), make.of(dt.uint8, 2)), DTypeError, "dtypes differ")


class Pad(Movement, name="pad", family="movement"):
    """`value` around x: `before` and `after` it on each axis, `interior` many between neighbours.

    The new size of an axis is before + size + (size - 1) * interior + after (XLA's Pad, which also
    crops by negative sizes; those are refused here).
    """

    before: Shape
    after: Shape
    value: float = 0.0
    interior: Shape | None = None

    def infer(self, x: Spec) -> Spec:
        between = self.gaps(x.rank)
        if not len(self.before) == len(self.after) == len(between) == x.rank:
            raise ShapeError(
                f"pad: before {self.before}, after {self.after}, interior {self.interior}: "
                f"needs one size per axis of {x}"
            )
        if min((*self.before, *self.after, *between), default=0) < 0:
            raise ShapeError(
                f"pad: negative size in before {self.before}, after {self.after}, "
                f"interior {between}",
                hint="slice x to crop it",
            )
        sizes = zip(self.before, x.shape, between, self.after, strict=True)
        shape = tuple(low + n + max(n - 1, 0) * gap + high for low, n, gap, high in sizes)
        return Spec(shape, x.dtype)

    def gaps(self, rank: int) -> Shape:
        """`interior`, with its default."""
        return (0,) * rank if self.interior is None else self.interior

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        step = tuple(gap + 1 for gap in self.gaps(grad.ndim))
        sizes = zip(self.before, ctx.specs[0].shape, step, strict=True)
        stop = tuple(low + max((n - 1) * by + 1, 0) for low, n, by in sizes)
        return (Slice(start=self.before, stop=stop, step=step)(grad),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape, before, after, interior in (
            ("both", (3, 4), (1, 2), (2, 0), None), ("after", (5,), (0,), (3,), None),
            ("nothing", (3, 4), (0, 0), (0, 0), None), ("scalar", (), (), (), None),
            ("interior", (3, 4), (1, 0), (0, 2), (2, 1)),
            ("interior-one", (1, 1), (1, 1), (0, 0), (3, 3)),
            ("empty", (0, 3), (2, 0), (1, 0), None),
            ("empty-interior", (0, 3), (1, 0), (0, 0), (4, 0)),
            ("odd", (1, 1021), (1, 1), (1, 1), None),
        ):  # fmt: skip
            op = cls(before=before, after=after, interior=interior)
            tags = {"empty"} if "empty" in name else set()
            yield Case(op, (make.normal(*shape),), name, frozenset(tags))
        values = (1, float("nan"), float("-inf")) if make.dtype.is_floating else (1,)
        for value in values:
            op = cls(before=(1, 0), after=(0, 1), value=value)
            yield Case(op, (make.normal(2, 3),), f"value-{value}", frozenset({"special"}))
        view = make.normal(8, 6, view=lambda x: x.mT[::-1, ::2])
        op = cls(before=(1, 0), after=(1, 2), interior=(0, 1))
        yield Case(op, (view,), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x = make.normal(2, 3)
        yield BadCase(cls(before=(1,), after=(1,)), (x,), ShapeError, "needs one size per axis")
        yield BadCase(cls(before=(1, -1), after=(0, 0)), (x,), ShapeError, "negative size")


class Repeat(Movement, name="repeat", family="movement"):
    """Each element along `axis` `repeats` times in a row (Array API `repeat`): a b -> a a b b."""

    repeats: int
    axis: int

    def infer(self, x: Spec) -> Spec:
        axis = normalize_axis(self.axis, x.rank, "repeat")
        if self.repeats < 0:
            raise ShapeError(f"repeat: repeats must not be negative, got {self.repeats}")
        size = x.shape[axis] * self.repeats
        return Spec((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)

    def compose(self, x: Tensor) -> Tensor:
        axis = self.axis % x.ndim
        wide = (*x.shape[: axis + 1], self.repeats, *x.shape[axis + 1 :])
        return x.unsqueeze(axis + 1).expand(wide).reshape(self.infer(x.spec).shape)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor]:
        shape = ctx.specs[0].shape
        axis = self.axis % grad.ndim
        return (grad.reshape(*shape[: axis + 1], self.repeats, *shape[axis + 1 :]).sum(axis + 1),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, repeats, axis, shape in (
            ("first", 2, 0, (3, 4)), ("last", 3, -1, (3, 4)), ("middle", 2, 1, (2, 3, 4)),
            ("once", 1, 0, (3, 4)), ("one", 5, 0, (1,)), ("none", 0, 1, (2, 3)),
            ("empty", 2, 1, (3, 0)),
        ):  # fmt: skip
            tags = {"empty"} if name in ("none", "empty") else set()
            op = cls(repeats=repeats, axis=axis)
            yield Case(op, (make.normal(*shape),), name, frozenset(tags))
        for name, view in (("transposed", lambda x: x.mT), ("sliced", lambda x: x[1:5, ::-2])):
            x = make.normal(6, 9, view=view)
            yield Case(cls(repeats=2, axis=0), (x,), name, frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x = make.normal(2, 3)
        yield BadCase(cls(repeats=2, axis=2), (x,), ShapeError, "axis 2 is out of range")
        yield BadCase(cls(repeats=-1, axis=0), (x,), ShapeError, "must not be negative")


def concat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """`tensors` joined along an axis that they have. Raises ShapeError, DTypeError."""
    if not tensors:
        raise ShapeError("concat: needs at least one tensor")
    return Concat(axis=axis)(*tensors)


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """`tensors` of one shape joined along a new axis. Raises ShapeError, DTypeError."""
    if not tensors:
        raise ShapeError("stack: needs at least one tensor")
    first = tensors[0]
    at = normalize_axis(axis, first.ndim + 1, "stack")
    for t in tensors:
        if t.shape != first.shape:
            raise ShapeError(f"stack: shapes {first.shape} and {t.shape} differ")
    return Concat(axis=at)(*[t.unsqueeze(at) for t in tensors])


def pad(
    x: Tensor,
    before: Sequence[int],
    after: Sequence[int],
    value: float = 0.0,
    interior: Sequence[int] | None = None,
) -> Tensor:
    """x with `value` before and after it on each axis, and `interior` many between its elements.

    Each is a sequence of one size per axis. Raises ShapeError for another length, negative sizes.
    """
    gaps = tuple(interior) if interior is not None and any(interior) else None
    return Pad(before=tuple(before), after=tuple(after), value=value, interior=gaps)(x)


def repeat(x: Tensor, repeats: int, axis: int) -> Tensor:
    """Each element along `axis` `repeats` times in a row. Raises ShapeError."""
    return Repeat(repeats=repeats, axis=axis)(x)


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def _only(axis: int, size: int, out: Spec) -> Shape:
    """`size` on one axis, 0 on the others."""
    return tuple(size if a == axis else 0 for a in range(out.rank))


def _both(x: Tensor, y: Tensor) -> Tensor:
    return x | y if x.dtype is dt.bool_ else x + y

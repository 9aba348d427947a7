"""Reading and writing by index tensors: take, gather, scatter_add, dynamic_update_slice.

Indices are int32, int64 or uint8, from 0 to size - 1. Others raise DomainError on the CPU; devices
that cannot raise read zeros for them and write nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup import dtypes as dt
from groundup.errors import DTypeError, GroundupError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import CONTRACTION
from groundup.ops.filling import positions, zero
from groundup.ops.movement import Movement
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.reduction_base import NUMBERS
from groundup.ops.samples import BadCase, Case, Make, Operand, ViewOf
from groundup.shapes import Shape, normalize_axis

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["dynamic_update_slice", "gather", "scatter_add", "take"]

INDEX_DTYPES = (dt.uint8, dt.int32, dt.int64)


class Take(Movement, name="take", family="indexing"):
    """x's slices along `axis` at `indices`, whose shape replaces that axis (Array API `take`).

    With a table (V, D) and ids of any shape S this is an embedding: (*S, D).
    """

    axis: int = 0
    saves = ("indices",)

    def infer(self, x: Spec, indices: Spec) -> Spec:
        axis = normalize_axis(self.axis, x.rank, "take")
        need_index("take", indices)
        return Spec(x.shape[:axis] + indices.shape + x.shape[axis + 1 :], x.dtype)

    def cost(self, x: Spec, indices: Spec) -> Cost:
        return _looked_up(x, indices, self.infer(x, indices))

    def compose(self, x: Tensor, indices: Tensor) -> Tensor:
        axis = self.axis % x.ndim
        out = self.infer(x.spec, indices.spec)
        return x.gather(_rows_at(indices, axis, x.shape), axis).reshape(out.shape)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Each slice's gradient is added where the slice came from."""
        (indices,) = ctx.saved
        shape = ctx.specs[0].shape
        axis = self.axis % len(shape)
        rows = _rows_at(indices, axis, shape)
        source = grad.reshape(rows.shape)
        return zero(grad).expand(shape).scatter_add(rows, source, axis), None

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, axis, shape, wanted in (
            ("embedding", 0, (11, 4), (3, 5)), ("vector", 0, (7,), (4,)),
            ("last", -1, (3, 7), (5,)), ("middle", 1, (2, 6, 3), (2, 2)),
            ("scalar-index", 0, (5, 3), ()), ("one", 0, (1, 1), (1,)),
            ("empty-indices", 0, (5, 3), (0,)), ("empty-rows", 0, (5, 0), (3,)),
            ("odd", 0, (129, 33), (65,)),
        ):  # fmt: skip
            tags = {"empty"} if "empty" in name else set()
            x, indices = make.normal(*shape), make.ints(0, shape[axis], *wanted)
            yield Case(cls(axis=axis), (x, indices), name, frozenset(tags))
        yield Case(cls(), (make.normal(4, 5), ids([3, 3, 0, 3])), "repeated")
        byte = Operand(np.array([[2, 0], [1, 1]], np.uint8))
        yield Case(cls(), (make.normal(3, 5), byte), "uint8-indices")
        view = make.normal(6, 8, view=lambda x: x.mT[::2])
        indices = make.ints(0, 4, 5, 2, view=lambda x: x.mT[:, ::-1])
        yield Case(cls(), (view, indices), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x = make.normal(4, 3)
        yield BadCase(cls(axis=2), (x, make.ints(0, 3, 2)), ShapeError, "axis 2 is out of range")
        yield BadCase(cls(), (x, make.of(dt.float32, 2)), DTypeError, "indices must be int32")
        yield BadCase(cls(), (x, make.bools(2)), DTypeError, "indices must be int32")


class Gather(Movement, name="gather", family="indexing"):
    """out[i][j][k] = x[i][indices[i][j][k]][k] for axis=1.

    `indices` has x's rank and the result's shape; off `axis` it may be smaller than x. (PyTorch
    `gather`, Array API `take_along_axis`.)
    """

    axis: int
    saves = ("indices",)

    def infer(self, x: Spec, indices: Spec) -> Spec:
        need_index("gather", indices)
        _need_fit("gather", self.axis, x, indices)
        return Spec(indices.shape, x.dtype)

    def cost(self, x: Spec, indices: Spec) -> Cost:
        return _looked_up(x, indices, self.infer(x, indices))

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        (indices,) = ctx.saved
        return zero(grad).expand(ctx.specs[0].shape).scatter_add(indices, grad, self.axis), None

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, axis, shape, indices in _pairs(make):
            tags = {"empty"} if "empty" in name else set()
            yield Case(cls(axis=axis), (make.normal(*shape), indices), name, frozenset(tags))
        view = make.normal(6, 8, view=lambda x: x.mT[::2])
        indices = make.ints(0, 4, 6, 3, view=lambda x: x.mT[:, ::-1])
        yield Case(cls(axis=0), (view, indices), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        for indices, axis, error, text in _misfits(make):
            yield BadCase(cls(axis=axis), (make.normal(4, 3), indices), error, text)


def _looked_up(x: Spec, indices: Spec, out: Spec) -> Cost:
    """Of a large table only what was asked for is read."""
    return Cost(0, min(x.nbytes, out.nbytes) + indices.nbytes + out.nbytes)


class ScatterAdd(Op, name="scatter_add", family="indexing"):
    """x with `source` added at `indices` along `axis`: gather's reverse (PyTorch `scatter_add`).

    `indices` and `source` have one shape, of x's rank; off `axis` it may be smaller than x.
    Repeated indices add up, in any order; float16 and bfloat16 accumulate in float32.
    """

    axis: int
    aliases = {0: 0}  # noqa: RUF012
    accuracy = CONTRACTION
    dtypes = NUMBERS
    saves = ("indices",)

    def infer(self, x: Spec, indices: Spec, source: Spec) -> Spec:
        need_index("scatter_add", indices)
        _need_fit("scatter_add", self.axis, x, indices)
        if source.shape != indices.shape:
            raise ShapeError(
                f"scatter_add: source is {source}, indices are {indices}: shapes differ"
            )
        if source.dtype is not x.dtype or x.dtype is dt.bool_:
            hint = (
                f"use source.astype(groundup.{x.dtype})" if x.dtype is not dt.bool_ else "use int32"
            )
            raise DTypeError(f"scatter_add: cannot add source {source} to x {x}", hint=hint)
        return x

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        (indices,) = ctx.saved
        return grad, None, grad.gather(indices, self.axis) if ctx.needs[2] else None

    def cost(self, x: Spec, indices: Spec, source: Spec) -> Cost:
        """One addition per element of the source."""
        return Cost(source.size, 2 * x.nbytes + indices.nbytes + source.nbytes)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, axis, shape, indices in _pairs(make):
            tags = {"empty"} if "empty" in name else set()
            inputs = (make.normal(*shape), indices, make.normal(*indices.array.shape))
            yield Case(cls(axis=axis), inputs, name, frozenset(tags))
        for name, axis, view in (("rows", 0, lambda i: i), ("columns", 1, lambda i: i.mT)):
            indices = Operand(make.ints(0, 5, 40, 1).base, _expanded(view, (40, 6)))
            shape = (5, 6) if axis == 0 else (6, 5)
            source = make.normal(*indices.array.shape)
            yield Case(
                cls(axis=axis), (make.normal(*shape), indices, source), name, frozenset({"view"})
            )
        x, source = (
            make.normal(6, 8, view=lambda x: x.mT),
            make.normal(9, 3, view=lambda x: x[::-3].mT),
        )
        indices = make.ints(0, 8, 3, 3, view=lambda x: x.mT)
        yield Case(cls(axis=0), (x, indices, source), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x = make.normal(4, 3)
        for indices, axis, error, text in _misfits(make):
            source = make.normal(*indices.array.shape)
            yield BadCase(cls(axis=axis), (x, indices, source), error, text)
        wrong = (x, make.ints(0, 3, 2, 3), make.normal(3, 2))
        yield BadCase(cls(axis=0), wrong, ShapeError, "shapes differ")
        wrong = (x, make.ints(0, 3, 2, 3), make.of(dt.uint8, 2, 3))
        yield BadCase(cls(axis=0), wrong, DTypeError, "cannot add source")


class DynamicUpdateSlice(Movement, name="dynamic_update_slice", family="indexing"):
    """x with `update` in the place that begins at `starts`, an index tensor of one start per axis.

    Starts are moved so that the update fits: clamped to [0, size - update's size] (XLA). The place
    is known on the device only, so one recorded program serves every position.
    """

    aliases = {0: 0}  # noqa: RUF012
    saves = ("starts",)

    def infer(self, x: Spec, update: Spec, starts: Spec) -> Spec:
        need_index("dynamic_update_slice", starts, "starts")
        if update.dtype is not x.dtype:
            hint = f"use update.astype(groundup.{x.dtype})"
            raise DTypeError(f"dynamic_update_slice: x is {x}, update is {update}", hint=hint)
        pairs = zip(update.shape, x.shape, strict=False)
        if update.rank != x.rank or any(small > large for small, large in pairs):
            raise ShapeError(f"dynamic_update_slice: update {update} does not fit into x {x}")
        if starts.shape != (x.rank,):
            raise ShapeError(
                f"dynamic_update_slice: starts must have shape ({x.rank},), got {starts}"
            )
        return x

    def compose(self, x: Tensor, update: Tensor, starts: Tensor) -> Tensor:
        if not update.size:
            return x.clone()
        inside = zero(x, dt.bool_) == 0
        for axis, (place, size) in enumerate(self._places(starts, x.shape, update.shape)):
            offset = positions(x, x.shape[axis]) - place
            update = update.take(offset.clamp(0, size - 1), axis)
            covered = (offset >= 0) & (offset < size)
            inside = inside & covered.reshape(*_only(x.shape[axis], axis, x.ndim))
        return inside.where(update, x)

    def vjp(self, ctx: Ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        (starts,) = ctx.saved
        shape = ctx.specs[1].shape
        into_x = into_update = None
        if ctx.needs[0]:
            into_x = DynamicUpdateSlice()(grad, zero(grad).expand(shape), starts)
        if ctx.needs[1]:
            into_update = grad
            for axis, (place, size) in enumerate(self._places(starts, grad.shape, shape)):
                into_update = into_update.take(positions(grad, size) + place, axis)
        return into_x, into_update, None

    def _places(self, starts: Tensor, shape: Shape, update: Shape) -> Iterator[tuple[Tensor, int]]:
        """Per axis the clamped start and the update's size."""
        starts = starts.astype(dt.int32)
        for axis, (large, small) in enumerate(zip(shape, update, strict=True)):
            yield starts[axis].clamp(0, large - small), small

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, shape, small, starts in (
            ("inner", (5, 7), (2, 3), (1, 2)), ("corner", (5, 7), (2, 3), (3, 4)),
            ("whole", (3, 4), (3, 4), (0, 0)), ("clamped", (5, 7), (2, 3), (9, -4)),
            ("scalar", (), (), ()), ("one", (1,), (1,), (0,)),
            ("cache", (2, 3, 16, 4), (2, 3, 1, 4), (0, 0, 9, 0)),
            ("empty-update", (5, 7), (0, 3), (1, 2)), ("empty", (0, 3), (0, 2), (0, 1)),
        ):  # fmt: skip
            tags = {"empty"} if "empty" in name else set()
            inputs = (make.normal(*shape), make.normal(*small), ids(starts))
            yield Case(cls(), inputs, name, frozenset(tags))
        x, update = (
            make.normal(6, 8, view=lambda x: x.mT),
            make.normal(4, 6, view=lambda x: x.mT[::2, 1:]),
        )
        yield Case(cls(), (x, update, ids((3, 2))), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x, update = make.normal(4, 3), make.normal(2, 3)
        yield BadCase(cls(), (x, make.normal(2, 4), ids((0, 0))), ShapeError, "does not fit into x")
        yield BadCase(cls(), (x, make.normal(3), ids((0, 0))), ShapeError, "does not fit into x")
        yield BadCase(cls(), (x, update, ids((0,))), ShapeError, "starts must have shape (2,)")
        yield BadCase(
            cls(), (x, update, make.of(dt.float32, 2)), DTypeError, "starts must be int32"
        )
        yield BadCase(cls(), (x, make.of(dt.uint8, 2, 3), ids((0, 0))), DTypeError, "update is")


def take(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    """x's slices along `axis` at `indices`, whose shape replaces that axis.

    Raises ShapeError (axis), DTypeError (indices), DomainError (an index out of range, on the CPU).
    """
    return Take(axis=axis)(x, indices)


def gather(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Per element of `indices` the element of x with that index along `axis`; of indices' shape.

    Raises ShapeError (axis, shapes), DTypeError (indices), DomainError (out of range, on the CPU).
    """
    return Gather(axis=axis)(x, indices)


def scatter_add(x: Tensor, indices: Tensor, source: Tensor, axis: int) -> Tensor:
    """A copy of x with `source` added at `indices` along `axis`; repeated indices add up.

    Raises ShapeError (axis, shapes), DTypeError, DomainError (an index out of range, on the CPU).
    """
    return ScatterAdd(axis=axis)(x, indices, source)


def dynamic_update_slice(x: Tensor, update: Tensor, starts: Tensor) -> Tensor:
    """A copy of x with `update` placed at `starts` (int32, one per axis), moved so that it fits.

    Raises ShapeError (update, starts), DTypeError.
    """
    return DynamicUpdateSlice()(x, update, starts)


def need_index(op: str, indices: Spec, name: str = "indices") -> None:
    """Raises DTypeError unless the dtype is one of indices."""
    if indices.dtype not in INDEX_DTYPES:
        raise DTypeError(
            f"{op}: {name} must be int32 (or int64, uint8), got {indices}",
            hint=f"use {name}.astype(groundup.int32)",
        )


def _need_fit(op: str, axis: int, x: Spec, indices: Spec) -> None:
    at = normalize_axis(axis, x.rank, op)
    sizes = zip(indices.shape, x.shape, strict=False)
    if indices.rank != x.rank or any(n > m for a, (n, m) in enumerate(sizes) if a != at):
        raise ShapeError(f"{op}: indices {indices} do not fit x {x} off axis {at}")


def _rows_at(indices: Tensor, axis: int, shape: Shape) -> Tensor:
    """Indices of whole slices along `axis`, expanded (without memory) to what gather wants."""
    rows = indices.reshape(*_only(indices.size, axis, len(shape)))
    return rows.expand(*shape[:axis], indices.size, *shape[axis + 1 :])


def _only(size: int, axis: int, rank: int) -> Shape:
    """`size` on one axis, 1 on the others."""
    return tuple(size if a == axis else 1 for a in range(rank))


def ids(values: Sequence[int]) -> Operand:
    """A sample of exactly these indices."""
    return Operand(np.array(values, np.int32))


def _pairs(make: Make) -> Iterator[tuple[str, int, Shape, Operand]]:
    """Name, axis, shape of x, indices, for gather and scatter_add."""
    for name, axis, shape, wanted in (
        ("first", 0, (5, 4), (3, 4)), ("last", -1, (3, 7), (3, 5)),
        ("middle", 1, (2, 6, 3), (2, 4, 3)),
        ("vector", 0, (7,), (11,)), ("one", 0, (1,), (1,)), ("smaller", 1, (4, 5, 6), (2, 9, 3)),
        ("empty-indices", 0, (5, 3), (0, 3)), ("empty-x", 1, (0, 3), (0, 2)),
        ("odd", 0, (129, 3), (257, 3)), ("two-columns", 0, (6, 2), (5, 2)),
    ):  # fmt: skip
        yield name, axis, shape, make.ints(0, shape[axis], *wanted)
    yield "repeated", 0, (4,), ids([2, 2, 0, 2, 2])
    yield "uint8-indices", 0, (3, 130), Operand(make.ints(0, 3, 5, 130).base.astype(np.uint8))


def _misfits(make: Make) -> Iterator[tuple[Operand, int, type[GroundupError], str]]:
    yield make.ints(0, 3, 2, 3), 2, ShapeError, "axis 2 is out of range"
    yield make.ints(0, 3, 2, 4), 0, ShapeError, "do not fit x"
    yield make.ints(0, 3, 2), 0, ShapeError, "do not fit x"
    yield make.of(dt.float32, 2, 3), 0, DTypeError, "indices must be int32"


def _expanded(view: ViewOf, shape: Shape) -> ViewOf:
    """A view of a column that repeats it to `shape` first: of an array and of a tensor."""

    def expand(x: Any) -> Any:
        wide = np.broadcast_to(x, shape) if isinstance(x, np.ndarray) else x.expand(shape)
        return view(wide)

    return expand

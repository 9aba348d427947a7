"""unstack: one axis taken apart into views. Its gradient is one stack, where slices would each
pad.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from groundup.errors import ShapeError
from groundup.layout import Layout, Spec
from groundup.ops.assembly import stack
from groundup.ops.movement import Movement
from groundup.ops.op import Ctx
from groundup.ops.samples import BadCase, Case, Make
from groundup.shapes import normalize_axis

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["unstack"]


class Unstack(Movement, name="unstack", family="movement"):
    """The `count` slices of x along `axis`, without that axis: views. (Array API `unstack`.)"""

    axis: int
    count: int

    @property
    def outputs(self) -> Sequence[str]:  # type: ignore[override]
        """One per slice."""
        return tuple(f"out{i}" for i in range(self.count))

    @property
    def differentiable(self) -> Sequence[int]:  # type: ignore[override]
        """Every output."""
        return range(self.count)

    def infer(self, x: Spec) -> tuple[Spec, ...]:
        axis = normalize_axis(self.axis, x.rank, "unstack")
        if x.shape[axis] != self.count:
            raise ShapeError(
                f"unstack: axis {axis} of {x} has size {x.shape[axis]}, not {self.count}"
            )
        return (Spec((*x.shape[:axis], *x.shape[axis + 1 :]), x.dtype),) * self.count

    def view(self, layout: Layout) -> list[tuple[Layout, int]]:
        specs = self.infer(layout.spec)
        axis = self.axis % layout.rank
        strides = (*layout.strides[:axis], *layout.strides[axis + 1 :])
        step = layout.strides[axis] if layout.size else 0
        return [(Layout(spec.shape, strides, spec.dtype), i * step) for i, spec in enumerate(specs)]

    def vjp(self, ctx: Ctx, *grads: Tensor) -> tuple[Tensor]:
        return (stack(grads, axis=self.axis % len(ctx.specs[0].shape)),)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, axis, shape in (
            ("first", 0, (3, 4)), ("last", -1, (2, 3)), ("middle", 1, (2, 3, 4)), ("one", 0, (1,)),
            ("empty", 0, (2, 0)),
        ):  # fmt: skip
            op = cls(axis=axis, count=shape[axis])
            tags = frozenset({"empty"} if name == "empty" else ())
            yield Case(op, (make.normal(*shape),), name, tags)
        view = make.normal(8, 6, view=lambda x: x.mT[::-1, ::2])
        yield Case(cls(axis=1, count=4), (view,), "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x = make.normal(2, 3)
        yield BadCase(cls(axis=1, count=2), (x,), ShapeError, "has size 3, not 2")
        yield BadCase(cls(axis=2, count=2), (x,), ShapeError, "axis 2 is out of range")


def unstack(x: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """Views of x along `axis`, without that axis, in order. Raises ShapeError."""
    at = normalize_axis(axis, x.ndim, "unstack")
    if x.shape[at] == 0:
        return ()
    views = Unstack(axis=at, count=x.shape[at]).many(x)
    return views if isinstance(views, tuple) else (views,)

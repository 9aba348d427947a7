"""How kernels are written here.

    @native("softmax", "axis")
    def softmax(op, inputs, outputs):
        ...
        return Plan(run)

A factory gets the op and its layouts, decides once what can be decided, and returns a `Plan`, whose
`run` is called at every launch with the views of the inputs and then of the outputs; or a
`Declined`, which says why there is no kernel for such layouts. The core then composes the op.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np

from groundup.backends.api import Declined, Kernel, Launch, View
from groundup.layout import Layout
from groundup.ops import Op

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

# nogil: our own threads run pieces side by side. error_model: 1 / 0 is inf, not an exception.
# contract: a product and a sum may be one instruction, which rounds less.
COMPILED: Final = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract"}}
# A call would end the vectors of the loop around it, and the compiler inlines no long functions.
INLINED: Final = {**COMPILED, "forceinline": True}
# The same for the functions in between, which are compiled with their caller's other options.
BETWEEN: Final = {"forceinline": True}
# reassoc: sums may be taken in lanes, or the compiler would have to add one by one. Never for the
# formulas of `scalars.py`, whose accuracy depends on the order of their operations.
SUMMING: Final = {**COMPILED, "fastmath": {"contract", "reassoc"}}


class Plan(NamedTuple):
    """A kernel for certain layouts; the fields are those of `groundup.backends.api.Kernel`."""

    run: Callable[..., None]
    contiguous: Sequence[int] = ()
    in_place: Mapping[int, int] = {}


Factory: TypeAlias = Callable[[Any, Sequence[Layout], Sequence[Layout]], Plan | Declined]
_F = TypeVar("_F", bound=Factory)


class Native(NamedTuple):
    """A registered factory, and the op's parameters that its kernels honour."""

    factory: Factory
    params: frozenset[str]


NATIVE: Final[dict[str, Native]] = {}


def native(name: str, *params: str) -> Callable[[_F], _F]:
    """Register the factory of the kernels of op `name`."""

    def register(factory: _F) -> _F:
        NATIVE[name] = Native(factory, frozenset(params))
        return factory

    return register


class NumbaLaunch:
    """A run with its memory, which it keeps from being handed out again."""

    __slots__ = ("name", "run", "views")

    def __init__(self, name: str, run: Callable[..., None], views: Sequence[View]) -> None:
        self.name, self.run, self.views = name, run, views

    def __call__(self) -> None:
        """Compute."""
        self.run(*self.views)

    def describe(self) -> Mapping[str, object]:
        """The op and the layouts."""
        return {"kernel": self.name, "layouts": [view.layout for view in self.views]}


class NumbaKernel(Kernel):
    """An op's plan."""

    def __init__(self, op: Op, params: frozenset[str], plan: Plan) -> None:
        self.name, self.params = op.name, params
        self.run, self.contiguous, self.in_place = plan

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """Offsets are read at every launch, which costs less than keeping arrays would save."""
        return NumbaLaunch(self.name, self.run, (*inputs, *outputs))

    def launch(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> None:
        """As `bind`, without making a Launch."""
        self.run(*inputs, *outputs)


def start(view: View) -> int:
    """Where the view begins in `view.native`, in elements."""
    return view.offset // view.layout.dtype.itemsize


def dense(view: View) -> Array:
    """A row-major view's elements as a flat array."""
    first = start(view)
    flat: Array = view.native[first : first + view.layout.size]
    return flat


def strided(view: View) -> Array:
    """A view as the array that NumPy would call it."""
    layout, dtype = view.layout, view.layout.dtype.numpy
    strides = [step * dtype.itemsize for step in layout.strides]
    return np.ndarray(layout.shape, dtype, view.native, view.offset, strides)

"""How kernels are written here: plain functions on NumPy arrays that fill their outputs.

    @native("softmax", params=("axis",))
    def softmax(op, x, out):
        ...

gets the op (for its static parameters), its input arrays, then its output arrays. float16 and
bfloat16 arrays reach it as float32 and its results are rounded back once, unless it says
`exact=True`.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final, TypeVar

import attrs
import numpy as np

from groundup import dtypes
from groundup.backends.api import Declined, Kernel, Launch, View
from groundup.layout import Layout
from groundup.ops.op import Op
from groundup_cpu_ref.threads import parallel

Array = np.ndarray[Any, np.dtype[Any]]
Run = Callable[..., Any]
_F = TypeVar("_F", bound=Callable[..., Any])
NATIVE: Final[dict[str, Native]] = {}
_NARROW: Final = (dtypes.float16, dtypes.bfloat16)
_THREADED: Final = 1 << 17  # elements from which a second thread pays for being woken


@attrs.frozen
class Native:
    """A registered kernel function."""

    function: Callable[..., Any]
    params: frozenset[str]
    in_place: bool
    exact: bool
    # Instead of the function, for an op whose kernel binds in a way of its own.
    make: Callable[[Op, Sequence[Layout], Sequence[Layout]], CpuKernel | Declined] | None = None


def native(
    name: str, *, params: Sequence[str] = (), in_place: bool = False, exact: bool = False
) -> Callable[[_F], _F]:
    """Register the kernel of op `name`; `params` are the static parameters that it honours.

    `in_place`: an output may be the array of the input that the op's `aliases` names.
    """

    def register(function: _F) -> _F:
        NATIVE[name] = Native(function, frozenset(params), in_place, exact)
        return function

    return register


class _Quiet(threading.local):
    """Runs functions with NumPy's warnings off: infinities and NaN are results here, not accidents.

    Entering a prepared context costs a tenth of `numpy.errstate`.
    """

    def __init__(self) -> None:
        context = contextvars.Context()
        context.run(partial(np.seterr, all="ignore"))
        self.run = context.run


_quiet = _Quiet()


def prebound(launches: Sequence[Launch]) -> Callable[[], None]:
    """All launches in one call: warnings are switched off once, and every function has its arrays.

    Launches of another make keep their own way to run.
    """
    parts: list[Callable[[], object]] = []
    for ours, group in groupby(launches, lambda launch: type(launch) is BoundLaunch):
        if ours:
            calls = tuple([partial(*launch.args) for launch in group])  # type: ignore[attr-defined]
            parts.append(partial(_each_quietly, calls))
        else:
            parts += group
    if len(parts) == 1:
        return parts[0]  # type: ignore[return-value]
    return partial(_each, parts)


def _each_quietly(calls: Sequence[Callable[[], object]]) -> None:
    _quiet.run(_each, calls)


def _each(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        call()


class BoundLaunch(partial[Any]):
    """A function with its arrays."""

    __slots__ = ()

    def describe(self) -> Mapping[str, object]:
        """The function's name and the shapes it was bound to."""
        function = self.args[0]
        named = getattr(function, "func", function)
        arrays = [a for a in self.args[1:] if isinstance(a, np.ndarray)]
        return {"kernel": named.__name__, "shapes": [a.shape for a in arrays]}


class CpuKernel(Kernel):
    """A function of arrays; see `native`."""

    __slots__ = ("in_place", "params", "run")

    def __init__(
        self,
        run: Run,
        params: frozenset[str] = frozenset(),
        in_place: Mapping[int, int] | None = None,
    ) -> None:
        self.run = run
        self.params = params
        self.in_place = in_place or {}

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """Everything is bound: a launch is one call."""
        arrays = [view.native for view in (*inputs, *outputs)]
        return BoundLaunch(_quiet.run, self.run, *arrays)

    def launch(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> None:
        """As `bind`, without making a Launch."""
        if len(inputs) == 2 and len(outputs) == 1:
            _quiet.run(self.run, inputs[0].native, inputs[1].native, outputs[0].native)
        else:
            _quiet.run(self.run, *[v.native for v in inputs], *[v.native for v in outputs])


def specialise(
    op: Op, found: Native, inputs: Sequence[Layout], outputs: Sequence[Layout]
) -> CpuKernel | Declined:
    """The kernel of `op` for these layouts."""
    if found.make is not None:
        return found.make(op, inputs, outputs)
    layouts = (*inputs, *outputs)
    if isinstance(found.function, np.ufunc):
        run: Run = found.function
        if outputs[0].size >= _THREADED and all(_is_flat(layout) for layout in layouts):
            run = partial(_in_threads, run)
        return CpuKernel(run, found.params)
    run = partial(found.function, op)
    if not found.exact and any(layout.dtype in _NARROW for layout in layouts):
        run = partial(_widened, run, len(inputs))
    return CpuKernel(run, found.params, dict(op.aliases) if found.in_place else None)


def _is_flat(layout: Layout) -> bool:
    """Whether the elements follow each other, or are all the same one (an expanded number)."""
    return layout.is_row_major or not any(layout.strides)


def flattened(array: Array) -> Array:
    """A row-major array as one row; one that repeats a single element, as that element."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    return array[(slice(0, 1),) * array.ndim].reshape(1)


def _in_threads(function: Run, *arrays: Array) -> None:
    """An elementwise function on flat pieces of its arrays."""
    flat = [flattened(a) for a in arrays]

    def work(start: int, stop: int) -> None:
        function(*[a if a.size == 1 else a[start:stop] for a in flat])

    parallel(work, arrays[-1].size, _THREADED // 2)


def _widened(run: Run, inputs: int, *arrays: Array) -> None:
    """Run in float32 and round the results once."""
    wide = [_wide(a) if i < inputs else _blank(a) for i, a in enumerate(arrays)]
    run(*wide)
    for computed, target in zip(wide[inputs:], arrays[inputs:], strict=True):
        if computed is not target:
            target[...] = computed


def _wide(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype in _NARROW_NUMPY else array


def _blank(array: Array) -> Array:
    return np.empty(array.shape, np.float32) if array.dtype in _NARROW_NUMPY else array


_NARROW_NUMPY: Final = tuple(d.numpy for d in _NARROW)

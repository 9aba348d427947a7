"""How ops describe their sample inputs: arrays, views of them, cases, and cases that must be
refused.

Samples are made of NumPy arrays, so that a test can run them on any backend and through an oracle.
A view is a function that works alike on an array and on a Tensor (`lambda x: x.mT`, `lambda x:
x[1:, ::2]`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from groundup import dtypes
from groundup.dtypes import DType
from groundup.errors import GroundupError

if TYPE_CHECKING:
    from groundup.ops.op import Op

Array = np.ndarray[Any, np.dtype[Any]]
ViewOf = Callable[[Any], Any]


def _same(x: Any) -> Any:
    return x


@attrs.frozen(eq=False)
class Operand:
    """A contiguous array and the view of it that the op gets. `array` is that view."""

    base: Array
    view: ViewOf = _same

    @property
    def array(self) -> Array:
        return self.view(self.base)  # type: ignore[no-any-return]


@attrs.frozen(eq=False)
class Case:
    """One sample: `op(*inputs)`. `tags` say what it probes ("empty", "nan", "tie", "view")."""

    op: Op
    inputs: tuple[Operand, ...]
    id: str
    tags: frozenset[str] = frozenset()


@attrs.frozen(eq=False)
class BadCase:
    """One refusal: `op(*inputs)` raises `error` with `text` in its message."""

    op: Op
    inputs: tuple[Operand, ...]
    error: type[GroundupError]
    text: str


class Make:
    """Makes sample operands of one dtype, reproducibly.

    The seed depends on the op's name and the dtype only, so adding an op changes no other op's
    samples.
    """

    def __init__(self, name: str, dtype: DType) -> None:
        self.dtype = dtype
        self._rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"{name}:{dtype}".encode())))

    def normal(self, *shape: int, scale: float = 1.0, view: ViewOf = _same) -> Operand:
        """Standard normal values times `scale`; for integers rounded, for bool the sign."""
        return self._cast(self._rng.standard_normal(shape) * self._scale(scale), view)

    def uniform(self, low: float, high: float, *shape: int, view: ViewOf = _same) -> Operand:
        """Uniform values in [low, high)."""
        return self._cast(self._rng.uniform(low, high, shape), view)

    def away(self, gap: float, *shape: int, view: ViewOf = _same) -> Operand:
        """Normal values at least `gap` from zero, for functions with a kink or a pole there."""
        values = self._rng.standard_normal(shape)
        return self._cast(values + np.copysign(gap, values), view)

    def values(self, values: Sequence[Any] | Array, view: ViewOf = _same) -> Operand:
        """Exactly these values."""
        return self._cast(np.asarray(values), view)

    def distinct(self, *shape: int, view: ViewOf = _same) -> Operand:
        """Well separated values in random order, so that maxima and sorting have no ties."""
        size = int(np.prod(shape, dtype=np.int64))
        order = self._rng.permutation(size).reshape(shape)
        return self._cast((order - size / 2) * (4.0 / max(size, 1)) + 0.01, view)

    def ints(self, low: int, high: int, *shape: int, view: ViewOf = _same) -> Operand:
        """int32 in [low, high)."""
        return Operand(self._rng.integers(low, high, shape).astype(np.int32), view)

    def bools(self, *shape: int, view: ViewOf = _same) -> Operand:
        """bool, half of them true."""
        return Operand(self._rng.uniform(size=shape) < 0.5, view)

    def of(self, dtype: DType, *shape: int) -> Operand:
        """Normal values in another dtype, for error cases."""
        return Operand((self._rng.standard_normal(shape) * 3).astype(dtype.numpy))

    def _scale(self, scale: float) -> float:
        return scale if self.dtype.is_floating else 3 * scale

    def _cast(self, values: Array, view: ViewOf) -> Operand:
        if self.dtype is dtypes.bool_:
            return Operand(np.asarray(values > 0), view)
        if not self.dtype.signed:
            values = np.abs(values)
        with np.errstate(all="ignore"):  # 1e30 is infinity in float16, as it should be
            return Operand(np.asarray(values.astype(self.dtype.numpy)), view)


SPECIAL_FLOATS: Final = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan)


def extremes(dtype: DType) -> list[float]:
    """Largest, smallest normal and smallest subnormal numbers of a float dtype, both signs."""
    import ml_dtypes

    info = ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call]
    sizes = [float(info.max), float(info.tiny), float(info.smallest_subnormal)]
    return [sign * size for size in sizes for sign in (1.0, -1.0)]


def cases_of(op: type[Op], dtype: DType) -> list[Case]:
    """All samples of an op in one dtype.

    Where an op gives none with NaN, its first one with floats is repeated with NaN and infinities
    put in.
    """
    cases = list(op.samples(Make(op.name, dtype)))
    if dtype.is_floating and not any("nan" in case.tags for case in cases):
        cases += [poisoned for case in cases if (poisoned := _poisoned(case))][:1]
    return cases


def _poisoned(case: Case) -> Case | None:
    """The case with NaN, inf and -inf in its first operand of floats, None if that has no room."""
    for place, operand in enumerate(case.inputs):
        base = operand.base
        if base.dtype.kind not in "iub" and base.size >= 4 and not case.tags:
            changed = base.copy()
            changed.reshape(-1)[[1, base.size // 2, base.size - 1]] = (np.nan, np.inf, -np.inf)
            poisoned = Operand(changed, operand.view)
            inputs = (*case.inputs[:place], poisoned, *case.inputs[place + 1 :])
            return Case(case.op, inputs, f"{case.id}-special", frozenset({"nan", "special"}))
    return None


def bad_cases_of(op: type[Op], dtype: DType) -> list[BadCase]:
    """All refusals of an op in one dtype."""
    return list(op.errors(Make(op.name, dtype)))

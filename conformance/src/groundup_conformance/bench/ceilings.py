"""What the device can do at most, measured in the same run with the plainest of its own kernels.

Bandwidth is that of copying, of adding (two operands read, one result written), of reading (the
sum of rows; comparing two operands, which writes a byte for eight that it reads) and of writing (a
constant), at many sizes: what fits a cache is held against what the cache gives, not against
memory. The rate of arithmetic is the best of some matrix products. What starting a kernel costs is
the time of one on one element.

Bytes are those of the tensors that the kernels are given, not those of any op's `cost`: an op that
claims too much is found even where it measures the ceiling itself.

A ceiling is the best time of several; a row above one has it measured again, since the machine may
have been busy the first time, at the row's own size (between two sizes, a cache may fill up) and in
several places in memory (where blocks lie decides how evenly they spread over parts of a cache).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from groundup.backends.api import Device
from groundup.dtypes import DType, float32
from groundup.errors import GroundupError
from groundup.layout import Layout, Spec
from groundup.ops.op import REGISTRY, Op
from groundup_conformance.bench.bound import SETS, bind
from groundup_conformance.bench.timing import Effort, back_to_back
from groundup_conformance.bench.works import Work

_SMALLEST, _STEP = 1 << 12, 2  # bytes; how much larger each rung is, as a power of 2
_PLACES: Final = 4  # in memory, of a ceiling that is measured again
_EFFORT: Final = Effort(seconds=0.06, least=5, most=20, flushed=0)
_PRODUCTS: Final = tuple((n, n, n) for n in (256, 512, 1024, 2048, 8192))
_FIRST: Final = 1e8  # flops of a product that is small on any device


def _made(op: str, shapes: list[tuple[int, ...]], kind: DType, **fields: Any) -> Work:
    made: Op = REGISTRY[op](**fields)
    layouts = tuple(Layout.contiguous(Spec(shape, kind)) for shape in shapes)
    return Work(made, layouts, kind, "ceiling")


def _rows(elements: int) -> tuple[int, int]:
    width = min(1024, elements)
    return elements // width, width


_KINDS: Final[dict[str, Callable[[int], Work]]] = {  # from the number of elements of an operand
    "copy": lambda n: _made("contiguous", [(n,)], float32),
    "triad": lambda n: _made("add", [(n,), (n,)], float32),
    "read": lambda n: _made("sum", [_rows(n)], float32, axes=(1,)),
    "compare": lambda n: _made("greater", [(n,), (n,)], float32),
    "write": lambda n: _made("full", [], float32, shape=(n,), value=1.5, dtype=float32),
}
# Their bytes, in operands of float32.
_OPERANDS: Final = {"copy": 2.0, "triad": 3.0, "read": 1.0, "compare": 2.25, "write": 1.0}


@attrs.define(eq=False)
class Ceilings:
    """Those of one device; measured when first asked for, and kept."""

    device: Device
    largest: int  # bytes of the largest working set
    bandwidths: dict[int, dict[str, float]] = attrs.field(factory=dict)  # bytes/s by working set
    rates: dict[str, float] = attrs.field(factory=dict)  # FLOP/s by dtype
    start: float | None = None  # seconds

    def bandwidth(self, footprint: int, written: float) -> tuple[float, str]:
        """(bytes/s, what it is the bandwidth of) for works of that footprint.

        `written` is the share of the bytes that are written: reading has a ceiling of its own, and
        so has writing. Of the nearest sizes that were measured the best one counts.
        """
        kinds = ["copy", "triad"]
        kinds += ["read", "compare"] if written < 0.3 else ["write"] if written > 0.7 else []
        found = [(self._rung(size)[kind], kind) for size in self._near(footprint) for kind in kinds]
        return max(found)

    def rate(self, dtype: DType) -> float | None:
        """FLOP/s of the best matrix product; None for a dtype without."""
        if dtype.name not in self.rates:
            self._measure_rate(dtype)
        return self.rates[dtype.name] or None

    def latency(self) -> float:
        """Seconds of the smallest launch."""
        if self.start is None:
            self.start = min(self._seconds(work_of(1)) for work_of in _KINDS.values())
        return self.start

    def again(self, footprint: int, dtype: DType) -> None:
        """Measure once more what bounds a work; the better figure stays."""
        for size in {self._whole(footprint), *self._near(footprint)}:
            self._measure(size, max(1, min(_PLACES, self.largest // size)))
        if self.rates.get(dtype.name):
            self._measure_rate(dtype)
        before, self.start = self.latency(), None
        self.start = min(before, self.latency())

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        large = self.bandwidths[max(self.bandwidths)] if self.bandwidths else {}
        return {
            "device": self.device.info.name,
            "description": self.device.info.description,
            "bandwidth": {str(size): dict(by) for size, by in sorted(self.bandwidths.items())},
            "memory": dict(large),
            "flops": {name: rate for name, rate in self.rates.items() if rate},
            "launch": self.start,
        }

    # ---- parts ----

    def _whole(self, footprint: int) -> int:
        """The working set of a work, which found room itself, so that a ceiling of it does too."""
        return max(SETS * footprint, _SMALLEST)

    def _near(self, footprint: int) -> list[int]:
        """The two sizes around a footprint that all works share, and its own if that is known."""
        whole = self._whole(footprint)
        power = (min(whole, self.largest).bit_length() - 1 - 12) // _STEP
        low = _SMALLEST << (_STEP * power)
        found = [size for size in (low, low << _STEP) if size <= self.largest] or [low]
        return [*found, whole] if whole in self.bandwidths else found

    def _rung(self, size: int) -> dict[str, float]:
        if size not in self.bandwidths:
            self._measure(size)
        return self.bandwidths[size]

    def _measure(self, size: int, places: int = 1) -> None:
        known = self.bandwidths.setdefault(size, {})
        for kind, work_of in _KINDS.items():
            work = work_of(max(1, int(size / (SETS * 4 * _OPERANDS[kind]))))
            rate = work.footprint / self._seconds(work, places)
            known[kind] = max(rate, known.get(kind, 0.0))

    def _measure_rate(self, dtype: DType) -> None:
        best = self.rates.get(dtype.name, 0.0)
        uses = self.device.info.dtypes.get(dtype, frozenset())
        for m, k, n in _PRODUCTS if "matmul" in uses and dtype.is_floating else ():
            flops = 2 * m * k * n
            if flops > max(best / 4, _FIRST):
                break  # more than a quarter of a second
            work = _made("matmul", [(m, k), (k, n)], dtype)
            best = max(best, flops / self._seconds(work))
        self.rates[dtype.name] = best

    def _seconds(self, work: Work, places: int = 1) -> float:
        """The best time; in other places in memory while what came before is still there."""
        try:
            bound = [bind(work, self.device) for _ in range(places)]
        except GroundupError as error:
            raise error.note_device(f"{self.device.info.name}, measuring its ceilings") from None
        return min(min(back_to_back(each, self.device, _EFFORT)) for each in bound)

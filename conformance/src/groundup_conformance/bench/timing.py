"""Taking times: whole calls by the host's clock, launches by the device's, back to back and cold.

pytest-benchmark keeps the times of whole calls. Its timer is `clock`, which stands still but for
the seconds that a round adds to it: so one round can be many calls of something quick, and the
rounds of other libraries can run in between without counting.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

import attrs
import numpy as np

from groundup.backends.api import Device, Launch
from groundup.ops.movement import Contiguous
from groundup.profiler.counting import counting
from groundup_conformance.bench.bound import SETS, Bound, Together, launches_of, put
from groundup_conformance.memory import placed
from groundup_conformance.running import apply

Call = Callable[[int], object]  # with the number of the set of operands
_QUANTUM: Final = 2e-3  # seconds that a round should take at least
WARM: Final = 1  # rounds that do not count
_SETTLE: Final = 5e-3  # seconds until the idle threads of OpenMP libraries sleep
_THREADED: Final = 2e-5  # seconds of a call from which libraries start threads
_MOST_CALLS: Final = 1000


@attrs.frozen
class Effort:
    """How long to measure: seconds for each figure, rounds at least and at most."""

    seconds: float
    least: int
    most: int
    flushed: int  # bytes written to empty the caches

    def rounds(self, one: float) -> int:
        """How many rounds of `one` second each."""
        return max(self.least, min(self.most, int(self.seconds / max(one, 1e-9))))


class Clock:
    """What pytest-benchmark takes for the time."""

    __name__ = "seconds of whole calls"

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


clock: Final = Clock()


@attrs.define(eq=False)
class Runner:
    """Something to call: ours or another library's, with what waits for it to finish."""

    name: str
    call: Call
    wait: Callable[[], object]
    turn: int = 0

    def seconds(self, calls: int) -> float:
        """Of one call, over that many back to back with rotating operands."""
        call, turn = self.call, self.turn
        start = time.perf_counter()
        for number in range(turn, turn + calls):
            call(number % SETS)
        self.wait()
        end = time.perf_counter()
        self.turn = turn + calls
        return (end - start) / calls


@attrs.define(eq=False)
class Part:
    """What one library does in a round: so many calls that the clock can tell."""

    runner: Runner
    calls: int = 1
    one: float = 0.0  # seconds of a call, roughly

    def calibrate(self) -> None:
        """Find out how many calls make a part."""
        self.runner.seconds(1)
        self.one = self.runner.seconds(1)
        if self.one < _QUANTUM / 4:
            self.one = self.runner.seconds(max(1, min(100, int(_QUANTUM / 4 / self.one))))
        self.calls = max(1, min(_MOST_CALLS, int(_QUANTUM / max(self.one, 1e-9))))


class Rounds:
    """Our rounds, and between them those of other libraries, so that noise meets all."""

    def __init__(self, ours: Runner, peers: Sequence[Runner]) -> None:
        self._parts = [Part(runner) for runner in (ours, *peers)]
        self._taken: list[list[float]] = [[] for _ in self._parts]
        for part in self._parts:
            part.calibrate()
        # Calls that are too short for threads leave none behind that spin.
        self._settle = len(self._parts) > 1 and max(part.one for part in self._parts) > _THREADED

    def count(self, effort: Effort) -> int:
        """How many rounds there is time for."""
        pause = _SETTLE if self._settle else 0.0
        return effort.rounds(sum(part.calls * part.one + pause for part in self._parts))

    def __call__(self) -> None:
        """One round, for `benchmark.pedantic`."""
        for part, taken in zip(self._parts, self._taken, strict=True):
            taken.append(self._turn(part))
        clock.now += self._taken[0][-1]

    def _turn(self, part: Part) -> float:
        """One library's part of a round.

        Threads of the last one may still be spinning: they are given time to fall asleep, and ours
        a call to be woken by.
        """
        if self._settle:
            time.sleep(_SETTLE)
            part.runner.seconds(1)
        return part.runner.seconds(part.calls)

    @property
    def counted(self) -> list[float]:
        """Our seconds of one call, by round, without the rounds that warm up."""
        return self._taken[0][WARM:] or self._taken[0]

    def counts(self, device: Device) -> dict[str, int]:
        """What one call of ours more asks of the device, by the counters of `groundup.counting`."""
        with counting(device) as counts:
            self._parts[0].runner.call(0)
        return attrs.asdict(counts)

    def ratios(self) -> dict[str, dict[str, float]]:
        """Ours over each peer's, round by round: the median and the quartiles.

        `best` is our quickest round over their quickest, which a busy machine moves least.
        """
        found = {}
        for part, taken in zip(self._parts[1:], self._taken[1:], strict=True):
            theirs = taken[WARM:] or taken
            each = [a / b for a, b in zip(self.counted, theirs, strict=True)]
            low, middle, high = _quartiles(each)
            found[part.runner.name] = {
                "median": middle, "low": low, "high": high, "rounds": len(each),
                "best": min(self.counted) / min(theirs), "seconds": statistics.median(theirs),
            }  # fmt: skip
        return found


def _quartiles(values: list[float]) -> list[float]:
    """Of what was measured, without guessing at what lies beyond."""
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def back_to_back(bound: Sequence[Bound], device: Device, effort: Effort) -> list[float]:
    """Device seconds of one run of the launches, many in a row over all sets."""
    launches = [launch for each in bound for launch in each.launches]
    replay = device.record(launches)
    once = device.timed([Together(launches, replay)])[0]
    repeats = max(1, min(200, int(_QUANTUM / max(once, 1e-9))))

    def many() -> None:
        for _ in range(repeats):
            replay()

    together = Together(launches * repeats, many)
    rounds = effort.rounds(once * repeats)
    with _quiet():
        taken = [device.timed([together])[0] for _ in range(rounds)]
    return [seconds / (repeats * len(bound)) for seconds in taken]


def cold(bound: Sequence[Bound], device: Device, flush: Launch, effort: Effort) -> list[float]:
    """Device seconds of one run of the launches after the caches were filled with other data."""
    taken = []
    for number in range(max(effort.least, SETS)):
        launches = bound[number % len(bound)].launches
        taken.append(sum(device.timed([flush, *launches])[1:]))
    return taken


def flusher(device: Device, nbytes: int) -> Launch:
    """A launch that reads and writes so many bytes."""
    source = put(placed(np.ones(nbytes // 8, np.float32)), device)
    with launches_of(device) as launches:
        apply(Contiguous(), [source], device)
    device.synchronize()
    return Together(launches, device.record(launches))


class _quiet:  # noqa: N801 - `with _quiet():`
    """No garbage collection inside."""

    def __enter__(self) -> None:
        self._was = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was:
            gc.enable()

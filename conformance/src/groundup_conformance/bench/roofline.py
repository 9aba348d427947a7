"""How near a work comes to what the device can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from groundup_conformance.bench.ceilings import Ceilings
from groundup_conformance.bench.works import Work
from groundup_conformance.judging import Failed

SLACK: Final = 1.02
_ATTEMPTS: Final = 3  # to measure both once more: the machine may have been busy


@attrs.frozen
class Standing:
    """A row's figures. `ceiling` names what binds, `share` is how much of it was reached."""

    gbs: float
    tflops: float
    ceiling: str
    share: float
    attainable: float  # seconds
    taken: list[float]  # device seconds of the work; the shortest counts here


def standing(work: Work, ceilings: Ceilings, time: Callable[[], list[float]]) -> Standing:
    """The figures of a work that takes the device seconds that `time` measures.

    Above 102 % of the ceiling that binds, both are measured anew, one right after the other: where
    others use the memory too, what was quick a minute ago says nothing about now. Of these times
    the best counts, as before. Raises Failed if it stays above: then data came from a cache that
    was not reckoned with, or the op's own `cost` claims work that need not be done.
    """
    found = _standing(work, time(), ceilings)
    anew: list[float] = []
    for _ in range(_ATTEMPTS):
        if found.share <= SLACK:
            break
        ceilings.again(work.footprint, work.dtype)
        anew += time()
        found = _standing(work, anew, ceilings)
    if found.share > SLACK:
        cost = work.cost
        raise Failed(
            f"{found.share:.0%} of the ceiling that binds ({found.ceiling}), more than 102 %: "
            f"cache or byte model? {work.op.name} claims {cost.bytes:,} bytes, {cost.flops:,} "
            f"flops, and took {min(found.taken):.3g} s where {found.attainable:.3g} s is the least"
        )
    return found


def _standing(work: Work, taken: list[float], ceilings: Ceilings) -> Standing:
    cost, seconds = work.cost, min(taken)
    bandwidth, kind = ceilings.bandwidth(work.footprint, work.written / max(cost.bytes, 1))
    rate = ceilings.rate(work.dtype)
    least = {
        f"{kind} bandwidth": cost.bytes / bandwidth,
        "arithmetic": cost.flops / rate if rate else 0.0,
        "launch": ceilings.latency(),
    }
    binding = max(least, key=lambda name: least[name])
    return Standing(
        gbs=cost.bytes / seconds / 1e9,
        tflops=cost.flops / seconds / 1e12,
        ceiling=binding,
        share=least[binding] / seconds,
        attainable=least[binding],
        taken=taken,
    )

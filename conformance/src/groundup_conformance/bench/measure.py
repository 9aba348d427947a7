"""One row: an op on a device, proved right, timed, proved right again, held to the ceilings."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import numpy as np

from groundup import dispatch
from groundup.backends.api import Device, Launch
from groundup_conformance.bench import bound as bounds
from groundup_conformance.bench.bound import Bound
from groundup_conformance.bench.ceilings import Ceilings
from groundup_conformance.bench.checking import Check, prepare
from groundup_conformance.bench.peers import Peer, results
from groundup_conformance.bench.roofline import standing
from groundup_conformance.bench.timing import (
    WARM,
    Effort,
    Rounds,
    Runner,
    back_to_back,
    cold,
    flusher,
)
from groundup_conformance.bench.works import Work
from groundup_conformance.budgets import PROFILES
from groundup_conformance.judging import Failed
from groundup_conformance.memory import read

_ALIKE: Final = 1e-2  # of a value: a peer may sum in another order, not do other work


@attrs.define(eq=False)
class Place:
    """A device under test, with what is known of it in this run."""

    device: Device
    effort: Effort
    ceilings: Ceilings
    peers: Sequence[Peer] = ()
    most: int = 1 << 23  # elements that are checked whole
    profile: str | None = None
    _flush: Launch | None = None

    @property
    def flush(self) -> Launch:
        """What empties the caches; made when first needed."""
        if self._flush is None:
            self._flush = flusher(self.device, self.effort.flushed)
        return self._flush


def measure(work: Work, place: Place, benchmark: Any) -> dict[str, Any]:
    """Run the work and put its figures into `benchmark`, the fixture of pytest-benchmark.

    Raises Failed if a result is wrong, before or after, or better than the device can be.
    """
    device = place.device
    sets = bounds.bind(work, device)
    if not sets[0].launches:
        raise Failed(f"{device.info.name} launches nothing for it")
    check = _prove(work, sets, place)
    bounds.spoil(sets, device, kind=1)
    found = standing(work, place.ceilings, lambda: back_to_back(sets, device, place.effort))
    cold_seconds = cold(sets, device, place.flush, place.effort)
    check.judge([each.outputs() for each in sets], "after timing")
    rounds = _calls(work, sets, check, place, benchmark)
    info: dict[str, Any] = {
        "op": work.op.name,
        "backend": device.info.name,
        "dtype": work.dtype.name,
        "regime": work.regime,
        "device_seconds": statistics.median(found.taken),
        "device_best": min(found.taken),
        "cold_seconds": statistics.median(cold_seconds),
        "wall_seconds": statistics.median(rounds.counted),
        "timer": "device" if "timer" in device.info.features else "host",
        "counts": rounds.counts(device),
        "bytes": work.cost.bytes,
        "flops": work.cost.flops,
        "gbs": found.gbs,
        "tflops": found.tflops,
        "ceiling": found.ceiling,
        "share": found.share,
        "checked": check.how,
        "ratio": rounds.ratios(),
    }
    benchmark.extra_info.update(info)
    return info


def _prove(work: Work, sets: Sequence[Bound], place: Place) -> Check:
    """The results are right, from memory full of poison."""
    profile = PROFILES[place.profile or place.device.info.profile]
    check = prepare(work, sets, profile, place.most)
    bounds.spoil(sets, place.device, kind=0)
    bounds.run(sets, place.device)
    check.judge([each.outputs() for each in sets], "before timing")
    return check


def _calls(work: Work, sets: Sequence[Bound], check: Check, place: Place, benchmark: Any) -> Rounds:
    """Whole calls, as users make them, by turns with the peers; the last results are checked."""
    device, op = place.device, work.op
    last: list[Any] = [None] * len(sets)
    operands = [tuple(each.tensors) for each in sets]

    def call(number: int) -> None:
        last[number] = dispatch.apply(op, operands[number], device)

    ours = Runner("groundup", call, device.synchronize)
    unable: dict[str, str] = {}
    peers = [peer for each in place.peers if (peer := _peer(each, work, sets, check, unable))]
    benchmark.extra_info["unable"] = unable
    rounds = Rounds(ours, peers)
    benchmark.pedantic(rounds, rounds=rounds.count(place.effort), warmup_rounds=WARM)
    if all(each is not None for each in last):
        values = [[read(y) for y in results(each)] for each in last]
        check.judge(values, "of the timed calls")
    return rounds


def _peer(
    peer: Peer, work: Work, sets: Sequence[Bound], check: Check, unable: dict[str, str]
) -> Runner | None:
    """The peer on the same operands; None, with the reason in `unable`, if it cannot do the work.

    Raises Failed if it computes something else, for then the ratio would mean nothing.
    """
    function = peer.function(work.op)
    if function is None:
        unable[peer.name] = f"{work.op.name} is not mapped to a function of it"
        return None
    try:  # libraries refuse dtypes in whatever way they like
        operands = [[peer.array(x) for x in each.arrays] for each in sets]
        found = results(function(*operands[0]))
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        unable[peer.name] = f"{type(error).__name__}: {error}".splitlines()[0]
        return None
    for got, wanted in zip(found, check.first[0], strict=False):
        _require_alike(peer.host(got), np.asarray(wanted), f"{peer.name}: {work.op.name}")
    return Runner(peer.name, _caller(function, operands), peer.wait)


def _caller(function: Callable[..., Any], operands: Sequence[Sequence[Any]]) -> Callable[..., Any]:
    return lambda number: function(*operands[number])


def _require_alike(got: Any, wanted: Any, what: str) -> None:
    one, two = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    if one.shape != two.shape:
        raise Failed(f"{what} gives shape {one.shape}, not {two.shape}: not the same work")
    size = np.abs(two)
    usual = float(np.median(size[np.isfinite(size)])) if np.isfinite(size).any() else 0.0
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - two) > _ALIKE * (size + usual)
    if apart.mean() > 1e-3:
        raise Failed(
            f"{what} gives other values in {apart.mean():.1%} of places: not the same work"
        )

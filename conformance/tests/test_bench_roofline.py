"""Ceilings are measured, and nothing may be better than they are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import pytest

from groundup import dtypes as dt
from groundup.backends.devices import device_for
from groundup.ops import REGISTRY
from groundup.ops.op import Cost
from groundup_conformance.bench import ceilings as module
from groundup_conformance.bench.bound import SETS, Bound
from groundup_conformance.bench.ceilings import Ceilings
from groundup_conformance.bench.roofline import standing
from groundup_conformance.bench.timing import Effort
from groundup_conformance.bench.works import Work, regimes
from groundup_conformance.judging import Failed


class Given(Ceilings):
    """Ceilings of 100 GB/s, 1 TFLOP/s and 1 us, until they are measured again."""

    better = 1.0
    measured = 0

    def bandwidth(self, footprint: int, written: float) -> tuple[float, str]:
        return 1e11 * (self.better if self.measured else 1), "copy"

    def rate(self, dtype: dt.DType) -> float | None:
        return 1e12

    def latency(self) -> float:
        return 1e-6

    def again(self, footprint: int, dtype: dt.DType) -> None:
        self.measured += 1


@pytest.fixture
def given() -> Given:
    return Given(device_for("cpu"), 1 << 20)


def took(*seconds: float) -> Callable[[], list[float]]:
    """What is measured: the first time so many seconds, and so on; the last ones from then on."""
    measured = chain(seconds, repeat(seconds[-1]))
    return lambda: [next(measured)]


def work_of(name: str, elements: int) -> Work:
    [work] = regimes(REGISTRY[name], dt.float32, [("cache", elements)])
    return work


def test_the_ceiling_that_takes_longest_binds(given: Given) -> None:
    add = standing(work_of("add", 1 << 20), given, took(1e-3))
    assert add.ceiling == "copy bandwidth"
    assert add.share == pytest.approx(12 * (1 << 20) / 1e11 / 1e-3)
    assert add.gbs == pytest.approx(12 * (1 << 20) / 1e9 / 1e-3)
    assert standing(work_of("matmul", 1 << 20), given, took(1e-2)).ceiling == "arithmetic"
    assert standing(work_of("add", 1 << 10), given, took(1e-5)).ceiling == "launch"


def test_more_than_the_device_can_do_is_an_error(given: Given) -> None:
    work = work_of("add", 1 << 20)
    with pytest.raises(Failed, match="more than 102 %: cache or byte model") as error:
        standing(work, given, took(12 * (1 << 20) / 1e11 / 1.03))
    assert "add claims 12,582,912 bytes" in str(error.value)
    assert given.measured == 3


def test_a_ceiling_is_measured_again_first(given: Given) -> None:
    given.better = 1.1
    found = standing(work_of("add", 1 << 20), given, took(12 * (1 << 20) / 1e11 / 1.05))
    assert found.share == pytest.approx(1.05 / 1.1)
    assert given.measured == 1


def test_what_was_quicker_than_the_ceiling_is_measured_again_too(given: Given) -> None:
    quick, usual = (12 * (1 << 20) / 1e11 / share for share in (1.15, 0.9))
    found = standing(work_of("add", 1 << 20), given, took(quick, usual))
    assert found.taken == [usual]
    assert found.share == pytest.approx(0.9)
    assert given.measured == 1


def test_one_slow_time_does_not_excuse_quick_ones(given: Given) -> None:
    quick, usual = (12 * (1 << 20) / 1e11 / share for share in (1.15, 0.9))
    with pytest.raises(Failed, match="115% of the ceiling"):
        standing(work_of("add", 1 << 20), given, took(quick, quick, usual))


def test_a_cost_that_claims_too_much_is_caught(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    op = REGISTRY["exp"]
    monkeypatch.setattr(op, "cost", lambda self, *specs: Cost(1, 10**15))
    with pytest.raises(Failed, match="exp claims 1,000,000,000,000,000 bytes"):
        standing(work_of("exp", 1 << 10), given, took(1e-3))


def test_ceilings_are_measured_by_size_and_only_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EFFORT", Effort(0.0, 1, 1, 0))
    monkeypatch.setattr(module, "_PRODUCTS", ((32, 32, 32),))
    found = Ceilings(device_for("cpu"), 1 << 16)
    rate, kind = found.bandwidth(1 << 12, 0.5)
    assert rate > 0
    assert kind in ("copy", "triad")
    assert set(found.bandwidths) <= {1 << 12, 1 << 14, 1 << 16}
    before: dict[int, dict[str, Any]] = {k: dict(v) for k, v in found.bandwidths.items()}
    start, product = found.latency(), found.rate(dt.float32)
    assert product
    found.again(1 << 12, dt.float32)
    assert all(found.bandwidths[k][n] >= v for k, by in before.items() for n, v in by.items())
    assert found.latency() <= start
    assert (found.rate(dt.float32) or 0) >= product
    assert found.rate(dt.int32) is None
    assert found.bandwidth(1 << 12, 0.0)[0] >= rate
    assert found.summary()["launch"] == found.latency()


def test_a_large_work_has_its_ceilings_measured_at_its_own_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_EFFORT", Effort(0.0, 1, 1, 0))
    found = Ceilings(device_for("cpu"), 1 << 14)
    found.bandwidth(1 << 20, 0.1)
    assert max(found.bandwidths) == 1 << 14
    found.again(1 << 20, dt.int32)
    own = found.bandwidths[3 << 20]
    assert found.bandwidth(1 << 20, 0.1)[0] >= max(own["read"], own["compare"], own["copy"])


def test_bytes_of_ceilings_are_not_those_that_an_op_claims(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else an `add` that claims too much would raise the very ceiling that it is held against."""
    monkeypatch.setattr(Ceilings, "_seconds", lambda self, work, places=1: 1e-3)
    honest, other = (Ceilings(device_for("cpu"), 1 << 14) for _ in range(2))
    honest.again(1 << 10, dt.int32)
    monkeypatch.setattr(REGISTRY["add"], "cost", lambda self, *specs: Cost(1, 10**15))
    other.again(1 << 10, dt.int32)
    assert other.bandwidths == honest.bandwidths
    with pytest.raises(Failed, match="add claims 1,000,000,000,000,000 bytes"):
        standing(work_of("add", 1 << 10), other, took(1e-3))


@pytest.mark.parametrize(("footprint", "places"), [(1 << 12, 4), (10_000, 2), (1 << 20, 1)])
def test_a_ceiling_is_measured_again_in_several_places(
    footprint: int, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffers: dict[int, list[Any]] = {}

    def spy(bound: list[Bound], *rest: Any) -> list[float]:
        view = bound[0].results[0]._view
        buffers.setdefault(view.layout.size, []).append(view.buffer)
        return [1e-3]

    monkeypatch.setattr(module, "back_to_back", spy)
    monkeypatch.setattr(module, "_KINDS", {"copy": module._KINDS["copy"]})
    found = Ceilings(device_for("cpu"), 1 << 16)
    found.again(footprint, dt.int32)
    own = buffers[int(SETS * footprint / (SETS * 4 * 2.0))]
    assert len({id(buffer) for buffer in own}) == len(own) == places

"""A benchmark of a wrong kernel fails, whenever it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from groundup import dtypes as dt
from groundup.backends.api import Device
from groundup.backends.devices import device_for
from groundup.ops import REGISTRY
from groundup_conformance.bench import checking
from groundup_conformance.bench.bound import bind
from groundup_conformance.bench.ceilings import Ceilings
from groundup_conformance.bench.checking import TooLarge, prepare
from groundup_conformance.bench.measure import Place, measure
from groundup_conformance.bench.timing import Effort
from groundup_conformance.bench.works import Work, regimes
from groundup_conformance.budgets import IEEE
from groundup_conformance.judging import Failed
from groundup_cpu_ref.native import Native, specialise

Function = Callable[..., Any]
QUICK = Effort(seconds=0.001, least=2, most=2, flushed=1 << 16)


class Benchmark:
    """Stands for pytest-benchmark's fixture."""

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}
        self.rounds = 0

    def pedantic(self, target: Callable[[], None], rounds: int, warmup_rounds: int) -> None:
        for _ in range(rounds + warmup_rounds):
            target()
            self.rounds += 1


class Plenty(Ceilings):
    """Ceilings that nothing reaches."""

    def bandwidth(self, footprint: int, written: float) -> tuple[float, str]:
        return 1e18, "copy"

    def rate(self, dtype: dt.DType) -> float | None:
        return 1e18

    def latency(self) -> float:
        return 1e-12


@pytest.fixture
def plant() -> Iterator[Callable[[str, Function], None]]:
    """Replace a kernel of the cpu backend by a function (op, *arrays)."""
    device = device_for("cpu")
    before = dict(device.overrides)

    def put(name: str, function: Function) -> None:
        native = Native(function, frozenset(REGISTRY[name].fields), False, False)
        device.overrides = {
            **device.overrides,
            name: lambda device, op, inputs, outputs: specialise(op, native, inputs, outputs),
        }
        device.plans.clear()

    yield put
    device.overrides = before
    device.plans.clear()


def work_of(name: str, elements: int = 1 << 10) -> Work:
    [work] = regimes(REGISTRY[name], dt.float32, [("launch", elements)])
    return work


def place(device: Device | None = None) -> Place:
    device = device or device_for("cpu")
    return Place(device, QUICK, Plenty(device, 1 << 20))


def test_a_row_has_all_its_figures() -> None:
    benchmark = Benchmark()
    info = measure(work_of("softmax"), place(), benchmark)
    assert info.items() <= benchmark.extra_info.items()
    assert {
        "op", "backend", "device_seconds", "cold_seconds", "wall_seconds", "gbs", "tflops",
        "ceiling", "share", "ratio", "checked",
    } <= info.keys()  # fmt: skip
    assert info["counts"]["launches"] == 1
    assert info["counts"]["waits"] == 0
    assert benchmark.rounds == QUICK.least + 1
    assert min(info[key] for key in ("device_seconds", "cold_seconds", "wall_seconds")) > 0


def test_a_wrong_kernel_is_not_timed(plant: Callable[[str, Function], None]) -> None:
    plant("exp", lambda op, x, out: np.multiply(np.exp(x), 1.001, out))
    benchmark = Benchmark()
    with pytest.raises(Failed, match="before timing: ratio"):
        measure(work_of("exp"), place(), benchmark)
    assert benchmark.rounds == 0


def test_an_element_that_is_never_written_shows(plant: Callable[[str, Function], None]) -> None:
    def forgetful(op: Any, x: Any, out: Any) -> None:
        np.exp(x[:-1], out[:-1])

    plant("exp", forgetful)
    with pytest.raises(Failed, match="before timing"):
        measure(work_of("exp"), place(), Benchmark())


def test_so_does_one_that_no_chosen_row_holds(
    plant: Callable[[str, Function], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_WHOLE", 8)
    monkeypatch.setattr(checking, "_SLICE", 16)
    work, done = work_of("exp"), set[int]()

    def forgetful(op: Any, x: Any, out: Any) -> None:
        """Writes one element in the middle only the first time that it gets the memory."""
        middle, address = out[500:501].copy(), out.ctypes.data
        np.exp(x, out)
        if address in done:
            out[500:501] = middle
        done.add(address)

    plant("exp", forgetful)
    with pytest.raises(Failed, match="not those of the first run"):
        measure(work, place(), Benchmark())


def test_a_kernel_that_goes_wrong_while_it_is_timed_fails(
    plant: Callable[[str, Function], None],
) -> None:
    calls = [0]

    def tiring(op: Any, x: Any, out: Any) -> None:
        calls[0] += 1
        np.multiply(np.exp(x), 1.0 if calls[0] <= 6 else 1.01, out)

    plant("exp", tiring)
    with pytest.raises(Failed, match="after timing"):
        measure(work_of("exp"), place(), Benchmark())


def test_a_kernel_that_answers_from_memory_fails(plant: Callable[[str, Function], None]) -> None:
    known: list[Any] = []

    def lazy(op: Any, x: Any, out: Any) -> None:
        if not known:
            known.append(np.exp(x))
        out[...] = known[0]

    plant("exp", lazy)
    with pytest.raises(Failed, match="set 1 before timing"):
        measure(work_of("exp"), place(), Benchmark())


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("softmax", True), ("add", True), ("matmul", True), ("layer_norm", True), ("gather", True),
        ("tril", False), ("dropout", False), ("cross_entropy", False), ("batch_norm", True),
        ("cross_entropy_backward", False), ("global_norm", False), ("conv2d", True),
    ],
)  # fmt: skip
def test_rows_are_chosen_where_they_are_independent(
    name: str, rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_WHOLE", 0)
    monkeypatch.setattr(checking, "_SLICE", 1 << 10)
    device = device_for("cpu")
    work = work_of(name, 1 << 12)
    bound = bind(work, device)
    check = prepare(work, bound, IEEE, 1 << 20)
    assert (check.rows is not None) == rows
    assert check.judge([each.outputs() for each in bound], "now") <= 1


def test_what_cannot_be_checked_is_not_measured() -> None:
    work = work_of("cross_entropy", 1 << 17)
    with pytest.raises(TooLarge, match="too many to be checked whole"):
        prepare(work, bind(work, device_for("cpu")), IEEE, 1000)


def test_inputs_rotate_and_are_not_touched() -> None:
    work = work_of("sort")
    bound = bind(work, device_for("cpu"))
    assert len(bound) == 3
    assert len({each.arrays[0].tobytes() for each in bound}) == 3
    assert all((each.tensors[0].numpy() == each.arrays[0]).all() for each in bound)


class Library:
    """Stands for another library."""

    name = "library"
    version = "library 1"

    def __init__(self, function: Function | None) -> None:
        self._function = function

    def function(self, op: Any) -> Function | None:
        return self._function

    def array(self, values: Any) -> Any:
        return values

    def host(self, result: Any) -> Any:
        return np.asarray(result)

    def wait(self) -> None:
        return None


def beside(function: Function | None) -> tuple[dict[str, Any], dict[str, str]]:
    where, benchmark = place(), Benchmark()
    where.peers = [Library(function)]
    info = measure(work_of("exp"), where, benchmark)
    return info["ratio"], benchmark.extra_info["unable"]


def test_a_peer_runs_in_turns_with_ours() -> None:
    ratio, unable = beside(np.exp)
    assert unable == {}
    found = ratio["library"]
    assert found["rounds"] == QUICK.least
    assert 0 < found["low"] <= found["median"] <= found["high"]
    assert found["best"] > 0


def test_a_peer_that_cannot_says_why() -> None:
    def refuses(x: Any) -> None:
        raise TypeError("no such dtype")

    assert beside(refuses) == ({}, {"library": "TypeError: no such dtype"})
    assert beside(None) == ({}, {"library": "exp is not mapped to a function of it"})


@pytest.mark.parametrize("function", [np.expm1, lambda x: np.exp(x)[1:]])
def test_a_peer_must_do_the_same_work(function: Function) -> None:
    with pytest.raises(Failed, match="not the same work"):
        beside(function)

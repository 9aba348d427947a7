"""The track `leaks` passes what is flat and finds what grows."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import groundup as gu
from groundup.backends.api import Device
from groundup.backends.installed import backends
from groundup.ops.third_party import all_ops
from groundup_conformance.running import Failed
from groundup_conformance.tracks import leaks
from groundup_conformance.tracks.leaks import flat

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture
def device() -> Device:
    """A cpu device of the test's own."""
    backend = backends()["cpu"].backend
    assert backend is not None
    opened = backend.open(0)
    opened.info = opened.describe()
    return opened


@pytest.mark.parametrize("name", ["softmax", "scaled_dot_product_attention", "adamw"])
def test_ops_of_the_cpu_are_flat(device: Device, name: str) -> None:
    [check] = leaks.ops({name: all_ops()[name]}, device.info)
    leaks.op(check, device)


def test_training_is_flat(device: Device) -> None:
    leaks.training("mlp", device)
    leaks.forgotten("mlp", device)
    leaks.refused(device)


def test_a_cache_that_keeps_every_tensor_is_found(device: Device) -> None:
    kept: list[Any] = []
    x = gu.ones(16, device=device)
    with pytest.raises(Failed, match=r"bytes per call are never given back \(host\)"):
        flat(lambda: kept.append(x + x), device, repeats=20)


def test_memory_of_the_device_that_is_kept_is_found(device: Device) -> None:
    kept: list[Any] = []
    with pytest.raises(Failed, match=r"512 bytes per call are never given back \(pool\)"):
        flat(lambda: kept.append(device.pool.take(512)), device, repeats=20)


def test_cycles_are_found(device: Device) -> None:
    """They keep memory until Python looks for garbage, which may be after it has run out."""

    class Holder:
        def __init__(self) -> None:
            self.me = self
            self.tensor = gu.ones(16, device=device)

    with pytest.raises(Failed, match="objects per call are garbage in cycles"):
        flat(Holder, device, repeats=20)


def test_a_cache_that_fills_once_is_no_leak(device: Device) -> None:
    cache: dict[int, bytes] = {}
    calls = iter(range(10**6))

    def call() -> None:
        number = next(calls) % 100
        cache[number] = bytes(1000 + number)

    flat(call, device, repeats=30)


def test_tensors_that_outlive_their_step_are_found(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    real = gu.nn.functional.cross_entropy

    def cross_entropy(*args: Any) -> Any:
        kept.append(real(*args))
        return kept[-1]

    monkeypatch.setattr(gu.nn.functional, "cross_entropy", cross_entropy)
    with pytest.raises(Failed, match=r"tensors outlive their step.*cross_entropy"):
        leaks.forgotten("mlp", device)


def test_the_collector_is_as_before() -> None:
    assert gc.isenabled()
    with leaks.collector_off():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_device_that_counts_is_believed(device: Device) -> None:
    assert not leaks.counts_bytes(device), "the cpu reports the resident memory of the process"
    assert leaks.counts_bytes(gu.device_for("null"))

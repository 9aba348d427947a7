"""The feature ladder: each rung can be left out, and is if a probe fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.errors import ConfigError, KernelCompileError
from groundup_webgpu import device as module
from groundup_webgpu.backend import WebGpuBackend
from groundup_webgpu.machine import VARIABLE as MACHINE
from groundup_webgpu.rungs import VARIABLE, allowed_rungs, f16_works, subgroups_work
from groundup_webgpu.source import Stage

ALL = {"shader-f16", "subgroup", "shader-f64"}


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> WebGpuBackend:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(MACHINE, raising=False)
    found = WebGpuBackend()
    probe = found.probe()
    if isinstance(probe, Unavailable):
        pytest.skip(f"webgpu: {probe.reason} ({probe.fix})")
    return found


def test_the_rungs_that_an_adapter_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(MACHINE, raising=False)
    assert allowed_rungs(ALL) == {"limits", "f16", "subgroups"}
    assert allowed_rungs({"subgroup"}) == {"limits", "subgroups"}
    monkeypatch.setenv(VARIABLE, "subgroups,limits")
    assert allowed_rungs(ALL) == {"f16"}
    monkeypatch.setenv(VARIABLE, "f16,subgroup")
    with pytest.raises(ConfigError, match="no rung 'subgroup'"):
        allowed_rungs(ALL)


def test_portable_kernels_need_no_subgroups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv(MACHINE, "portable")
    assert allowed_rungs(ALL) == {"limits", "f16"}


def test_without_any(backend: WebGpuBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "limits,f16,subgroups")
    device: Any = backend.open(0)
    assert device.info.features <= {"timer"}
    assert g.float16 not in device.info.dtypes
    assert (device.machine.memory, device.machine.buffers) == (16384, 8)
    assert not device.machine.subgroups
    assert (device.info.max_binding, device.info.max_operands) == (1 << 27, 8)
    assert not {"shader-f16", "subgroup"} & set(device._gpu.features)


@pytest.mark.parametrize("rung", ["f16", "subgroups"])
@pytest.mark.parametrize("how", ["wrong numbers", "not compiled"])
def test_a_probe_that_fails(
    backend: WebGpuBackend, monkeypatch: pytest.MonkeyPatch, rung: str, how: str
) -> None:
    had = backend.open(0).info.features
    if rung not in had:
        pytest.skip(f"the adapter has no {rung}")
    probe = module.WebGpuDevice._probe

    def broken(self: Any, stage: Stage, count: int, dtype: g.DType) -> Any:
        found = probe(self, stage, count, dtype)
        if ("f16" in stage.family) != (rung == "f16"):
            return found
        if how == "not compiled":
            raise KernelCompileError("what the driver says")
        return np.where(np.arange(count) == count - 1, 0, found).astype(found.dtype)

    monkeypatch.setattr(module.WebGpuDevice, "_probe", broken)
    device: Any = backend.open(0)
    assert device.info.features == had - {rung}
    assert (g.float16 in device.info.dtypes) == ("f16" in had - {rung})
    assert device.machine.subgroups == ("subgroups" in had - {rung})


def test_probes_go_by_all_numbers() -> None:
    """A host's answers: right ones pass, and none passes that is wrong at one place."""

    def answer(stage: Stage, count: int, dtype: g.DType) -> Any:
        threads = np.arange(256, dtype=np.float32)
        if stage.family == "probe_f16":
            with np.errstate(over="ignore"):
                return (threads * np.float32(300.3)).astype(np.float16)
        lanes = int(stage.parts["lanes"])
        sums = threads.reshape(-1, lanes).sum(1).repeat(lanes)
        tops = (threads * 37 % 251).reshape(-1, lanes).max(1).repeat(lanes)
        return np.concatenate([sums, tops])

    for probe in (f16_works, subgroups_work):
        assert probe(answer)
        for place in (1, 100, 255, -1):

            def wrong(stage: Stage, count: int, dtype: g.DType, place: int = place) -> Any:
                found = answer(stage, count, dtype)
                found[place] = -1
                return found

            assert not probe(wrong)


@pytest.mark.parametrize("width", [7, 64, 300, 2048])
def test_rows_of_threads_that_hand_each_other_numbers(machine_device: Any, width: int) -> None:
    x = np.random.default_rng(1).standard_normal((5, width)).astype(np.float32)
    given = g.from_numpy(x, machine_device)
    wide = x.astype(np.float64)
    shifted = np.exp(wide - wide.max(1, keepdims=True))
    wanted = shifted / shifted.sum(1, keepdims=True)
    np.testing.assert_allclose(given.softmax(-1).numpy(), wanted, rtol=2e-5, atol=1e-7)
    ones, zeros = g.ones(width, device=machine_device), g.zeros(width, device=machine_device)
    normed = g.nn.functional.layer_norm(given, ones, zeros).numpy()
    centered = wide - wide.mean(1, keepdims=True)
    deviation = np.sqrt((centered**2).mean(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(normed, centered / deviation, rtol=2e-5, atol=2e-6)

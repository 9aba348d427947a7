"""The track `robust` passes the cpu backend and finds what it is there to find."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch
from groundup.backends import installed
from groundup.backends.api import Available, Backend, Device, Kernel
from groundup.backends.installed import backends
from groundup.errors import GroundupError, KernelCompileError, OutOfMemory
from groundup.ops import lower as lowering
from groundup.ops.third_party import all_ops
from groundup_conformance import seam
from groundup_conformance.cases import Check
from groundup_conformance.running import Failed
from groundup_conformance.tracks import faults, losing

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture
def device() -> Device:
    """A cpu device of the test's own."""
    backend = backends()["cpu"].backend
    assert backend is not None
    opened = backend.open(0)
    opened.info = opened.describe()
    return opened


def case(
    generator: Callable[..., Any], device: Device, name: str, variant: str, op: str = ""
) -> Check:
    ops = {op or name: all_ops()[op or name]}
    found = [c for c in generator(ops, device.info) if c.id.variant == variant]
    assert len(found) == 1
    check: Check = found[0]
    return check


# ---- it passes what is right ----


@pytest.mark.parametrize("name", ["add", "softmax", "matmul", "layer_norm", "sort", "uniform"])
def test_ops_of_the_cpu_pass(device: Device, name: str) -> None:
    faults.shortage(case(faults.shortages, device, name, "no-memory"), device)
    faults.refusal(case(faults.refusals, device, name, "no-kernel"), device)
    faults.refusal(case(faults.refusals, device, name, "no-kernel-late"), device)


@pytest.mark.parametrize("variant", ["no-memory-update", "no-kernel-update"])
@pytest.mark.parametrize("name", ["sgd", "adamw", "dynamic_update_slice"])
def test_updates_of_the_cpu_pass(device: Device, name: str, variant: str) -> None:
    faults.failed_update(case(faults.failed_updates, device, name, variant), device)


def test_composed_updates_pass(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a kernel of its own, the update of several tensors is still done wholly or not."""
    own = device.kernel

    def kernel(op: Any, inputs: Any, outputs: Any) -> Any:
        if op.name == "adamw":
            return gu.backends.api.Declined("a backend without it")
        return own(op, inputs, outputs)

    monkeypatch.setattr(device, "kernel", kernel)
    for variant in ("no-memory-update", "no-kernel-update"):
        faults.failed_update(case(faults.failed_updates, device, "adamw", variant), device)


def test_gradients_and_steps_of_the_cpu_pass(device: Device) -> None:
    faults.shortage(case(faults.shortages, device, "softmax", "no-memory-gradient"), device)
    faults.full_device(device)
    faults.training_step(device)


def test_every_op_that_computes_has_a_case(device: Device) -> None:
    ops = all_ops()
    names = {c.id.op for c in faults.shortages(ops, device.info)}
    views = {name for name, op in ops.items() if op.view is not gu.ops.op.Op.view}
    assert names >= set(ops) - views
    updates = {c.id.op for c in faults.failed_updates(ops, device.info)}
    assert {"adamw", "sgd", "assign", "dynamic_update_slice"} <= updates


# ---- it finds what is wrong ----


def test_an_error_of_another_class_is_found(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a backend turns every failure into its own error."""
    check = case(faults.shortages, device, "softmax", "no-memory")

    class Odd(OutOfMemory):
        pass

    def launch(*args: Any) -> Any:
        try:
            return real(*args)
        except OutOfMemory as error:
            raise Odd("no memory") from error

    real = dispatch._launch
    monkeypatch.setattr(dispatch, "_launch", launch)
    with pytest.raises(Failed, match="wanted OutOfMemory, got Odd"):
        faults.shortage(check, device)


def test_a_foreign_error_is_found(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    check = case(faults.shortages, device, "softmax", "no-memory")

    def launch(*args: Any) -> Any:
        try:
            return real(*args)
        except OutOfMemory as error:
            raise RuntimeError("cudaErrorMemoryAllocation") from error

    real = dispatch._launch
    monkeypatch.setattr(dispatch, "_launch", launch)
    with pytest.raises(Failed, match="RuntimeError is no error of groundup"):
        faults.shortage(check, device)


def test_a_swallowed_error_is_found(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a backend falls back to something else without saying so."""
    check = case(faults.refusals, device, "softmax", "no-kernel")

    def find(*args: Any) -> Any:
        try:
            return real(*args)
        except KernelCompileError:
            return lowering.Declined("it did not compile")

    real = lowering.find_kernel
    monkeypatch.setattr(lowering, "find_kernel", find)
    with pytest.raises(Failed, match="there was no KernelCompileError"):
        faults.refusal(check, device)


def test_a_changed_input_is_found(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    check = case(faults.shortages, device, "softmax", "no-memory")

    def launch(plan: Any, views: Any, device: Device) -> Any:
        try:
            return real(plan, views, device)
        except OutOfMemory:
            views[0].native[...] = 0
            raise

    real = dispatch._launch
    monkeypatch.setattr(dispatch, "_launch", launch)
    with pytest.raises(Failed, match="input 0 was changed when allocation 1 failed"):
        faults.shortage(check, device)


def test_a_broken_next_call_is_found(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a cache keeps a half-made entry."""
    check = case(faults.refusals, device, "exp", "no-kernel")
    failed = False

    def find(*args: Any) -> Any:
        nonlocal failed
        try:
            kernel = real(*args)
        except GroundupError:
            failed = True
            raise
        return WrongKernel() if failed else kernel

    class WrongKernel(Kernel):
        def bind(self, inputs: Any, outputs: Any, workspace: Any = None) -> Any:
            def run() -> None:
                outputs[0].native[...] = 7

            return run

    real = lowering.find_kernel
    monkeypatch.setattr(lowering, "find_kernel", find)
    with pytest.raises(Failed, match="the next call gave another result"):
        faults.refusal(check, device)


def test_an_update_done_in_part_is_found(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    check = case(faults.failed_updates, device, "adamw", "no-memory-update")

    def update(op: Any, inputs: Any) -> None:
        results = dispatch.run(op, inputs)
        for output, index in op.aliases.items():
            device.empty(results[output]._view.layout)  # something is allocated in between
            inputs[index]._view.native[...] = results[output]._view.native

    monkeypatch.setattr(dispatch, "update", update)
    with pytest.raises(Failed, match="was changed when allocation"):
        faults.failed_update(check, device)


def test_memory_that_is_kept_is_found(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    check = case(faults.shortages, device, "softmax", "no-memory")
    kept = []

    def launch(*args: Any) -> Any:
        try:
            return real(*args)
        except OutOfMemory:
            kept.append(device.pool.take(4096))
            raise

    real = dispatch._launch
    monkeypatch.setattr(dispatch, "_launch", launch)
    with pytest.raises(Failed, match="4096 bytes were never given back"):
        faults.shortage(check, device)


def test_a_core_that_does_not_try_again_is_found(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(size: int, nbytes: int) -> tuple[int, Any]:
        return size, device.pool._allocate(size)

    monkeypatch.setattr(device.pool, "_fresh", once)
    with pytest.raises(OutOfMemory):
        faults.full_device(device)


# ---- the seam ----


def test_faults_are_gone_afterwards(device: Device) -> None:
    before = vars(device).copy()
    with seam.Shortage(device, 1), pytest.raises(OutOfMemory):
        gu.ones(3, device=device)
    with seam.Refusal(device, 1), pytest.raises(KernelCompileError):
        gu.ones(3, device=device)
    assert vars(device) == before
    assert gu.ones(3, device=device).tolist() == [1, 1, 1]


def test_a_late_refusal_happens_once(device: Device) -> None:
    x = gu.from_numpy(np.ones(3, np.float32), device)
    with seam.Refusal(device, 1, late=True) as refusal:
        with pytest.raises(KernelCompileError, match="add"):
            x + x
        assert (x + x).tolist() == [2, 2, 2]
    assert refusal.seen == 1


class Elsewhere(Backend):
    name = "elsewhere"
    api_version = (1, 0)
    priority = -1

    def probe(self) -> Available:
        return Available(["nowhere"])

    def open(self, index: int) -> Device:
        raise NotImplementedError


def test_a_backend_without_a_seam_shows_nothing() -> None:
    backend = backends()["cpu"].backend
    assert backend is not None
    assert seam.of_backend(backend) is None
    assert losing.seam_of("cpu") is None


def test_a_seam_is_found_in_the_backends_package(monkeypatch: pytest.MonkeyPatch) -> None:
    webgpu = installed.backends().get("webgpu")
    if webgpu is None or webgpu.backend is None:
        pytest.skip("groundup-webgpu is not installed")
    module = seam.of_backend(webgpu.backend)
    assert isinstance(module, types.ModuleType)
    assert callable(module.lose)
    monkeypatch.setattr(Elsewhere, "__module__", "a_module_that_is_no_package")
    monkeypatch.setitem(sys.modules, "a_module_that_is_no_package", types.ModuleType("no_package"))
    assert seam.of_backend(Elsewhere()) is None


def test_wrong_answers_of_a_lost_device_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = '{"read again": "no error", "synchronize": "as it should"}'
    monkeypatch.setattr(
        losing, "_command", lambda device: [sys.executable, "-c", f"print('{answer}')"]
    )
    with pytest.raises(Failed, match="read again: no error"):
        losing.lose("webgpu:0")
    monkeypatch.setattr(losing, "_command", lambda device: [sys.executable, "-c", "exit(3)"])
    with pytest.raises(Failed, match="ended with 3"):
        losing.lose("webgpu:0")

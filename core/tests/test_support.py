"""The support matrix asks the devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from groundup import dtypes, support
from groundup.backends.api import Declined, Device, Kernel, Kernels
from groundup.backends.devices import device_for
from groundup.backends.installed import Override
from groundup.backends.null import NullDevice
from groundup.layout import Layout
from groundup.ops import REGISTRY, Op

PRIMITIVES = {"abs", "neg", "exp", "add", "mul", "div", "less", "equal", "bitwise_or", "where"}


class Small(NullDevice):
    """A device with kernels for a few ops."""

    def __init__(self, known: set[str]) -> None:
        super().__init__()
        self.info = self.describe()
        self.known = known

    def kernel(self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Any:
        return super().kernel(op, inputs, outputs) if op.name in self.known else Declined("none")


def status(name: str, device: Device) -> str:
    return support.status(REGISTRY[name], device)


def test_native_composed_missing() -> None:
    device = Small(PRIMITIVES)
    assert status("exp", device) == "native"
    assert status("sub", device) == "composed"
    assert status("greater_equal", device) == "composed", "of greater, of less and equal"
    assert status("sigmoid", device) == "composed"
    assert status("silu", device) == "composed"
    assert status("sin", device) == "missing"
    assert status("tan", device) == "missing", "it has a composition, but of missing parts"


def test_views_are_native_everywhere() -> None:
    for name in ("reshape", "permute", "expand", "slice", "flip"):
        assert status(name, Small(set())) == "native"
    assert status("contiguous", Small(set())) == "missing"


def test_a_dtype_that_the_device_lacks() -> None:
    device = Small(PRIMITIVES)
    some = {d: k for d, k in device.info.dtypes.items() if not d.is_floating}
    device.info = attrs.evolve(device.info, dtypes=some)
    assert status("exp", device) == "missing"
    assert status("add", device) == "native", "in int32"


def test_a_sample_of_dtypes_that_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sample of `recast` in float32 makes bfloat16."""
    device = device_for("cpu")
    assert support.status(REGISTRY["recast"], device) == "composed"
    fewer = {k: v for k, v in device.info.dtypes.items() if k is not dtypes.bfloat16}
    monkeypatch.setattr(device, "info", attrs.evolve(device.info, dtypes=fewer))
    assert support.status(REGISTRY["recast"], device) == "composed"
    assert support.status(REGISTRY["foreach_cast"], device) == "composed"
    monkeypatch.setattr(device, "info", attrs.evolve(device.info, dtypes={}))
    assert support.status(REGISTRY["recast"], device) == "missing"


def test_strict_does_not_change_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDUP_STRICT", "1")
    assert status("silu", Small(PRIMITIVES)) == "composed"


def test_matrix() -> None:
    rows = support.matrix({"small": Small(PRIMITIVES), "cpu": device_for("cpu")})
    assert {row.op for row in rows} >= {name for name in REGISTRY if "::" not in name}
    assert [(row.family, row.op) for row in rows] == sorted((r.family, r.op) for r in rows)
    by_name = {row.op: row for row in rows}
    silu = by_name["silu"]
    assert (silu.family, silu.primitive) == ("elementwise", False)
    assert silu.backends == {"small": "composed", "cpu": "native"}
    assert by_name["exp"].primitive
    assert all(not row.providers for row in rows)


def test_by_default_every_backend_that_computes() -> None:
    devices = support.available_devices()
    assert devices["cpu"] is device_for("cpu")
    assert "null" not in devices


def test_the_package_that_brings_a_kernel_is_named() -> None:
    device = Small(PRIMITIVES)

    def factory(device: Device, op: Op, inputs: Any, outputs: Any) -> Kernel | Declined:
        return NullDevice.kernel(device, op, inputs, outputs)  # type: ignore[arg-type]

    override = Override("sin", "small")
    override.add(Kernels({"sin": factory}, "fast-sines", priority=50), "fast")
    device.overrides = {"sin": override}
    row = next(row for row in support.matrix({"small": device}) if row.op == "sin")
    assert row.backends == {"small": "native"}
    assert row.providers == {"small": "fast-sines"}


def test_summary() -> None:
    found = support.summary(Small(PRIMITIVES))
    assert found.native + len(found.composed) + len(found.missing) == found.total
    assert "silu" in found.composed
    assert "sin" in found.missing
    text = str(support.Summary(7, 9, ["einsum"], ["sort"]))
    assert text == "native 7/9; composed: einsum; missing: sort"
    many = support.Summary(1, 8, list("abcdefg"), [])
    assert str(many) == "native 1/8; composed: 7 (see `groundup ops --matrix`)"
    assert str(support.Summary(9, 9, [], [])) == "native 9/9"


def test_asking_launches_nothing() -> None:
    device = Small(PRIMITIVES)
    support.summary(device)
    assert device.work.launches == 0
    assert device.pool.allocations == 0
    assert dtypes.float32 in device.info.dtypes

"""Dispatch and lowering: plans, promotion, weak numbers, strictness, overrides."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch, dtypes
from groundup.backends.api import (
    Declined,
    Device,
    Kernel,
    KernelFactory,
    Kernels,
    Launch,
    View,
)
from groundup.backends.devices import device_for
from groundup.backends.installed import Override
from groundup.backends.null import NullDevice
from groundup.dtypes import promote
from groundup.errors import DeviceMismatch, DTypeError, UnsupportedDtype, UnsupportedOp
from groundup.layout import Layout, Spec
from groundup.ops.activation import Gelu, Silu
from groundup.ops.arithmetic import Add, Sub
from groundup.ops.elementwise import Exp
from groundup.ops.lower import Adjust, Compose, MakeView, RunKernel, lower
from groundup.ops.movement import Permute, Reshape
from groundup.ops.op import Op


class Counting(NullDevice):
    """A device that knows the kernels of some ops, and with which parameters."""

    def __init__(self, **known: frozenset[str]) -> None:
        super().__init__()
        self.info = self.describe()
        self.known = known
        self.asked: list[str] = []

    def kernel(  # type: ignore[override]
        self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> Kernel | Declined:
        self.asked.append(op.name)
        if op.name not in self.known:
            return Declined(f"no kernel for {op.name}")
        kernel = super().kernel(op, inputs, outputs)
        kernel.params = self.known[op.name]
        return kernel


def on(device: Device, *shape: int, dtype: dtypes.DType = dtypes.float32) -> gu.Tensor:
    return gu.Tensor(device.empty(Layout.contiguous(Spec(shape, dtype))), device, None, 0)


def cpu(array: Any) -> gu.Tensor:
    return gu.tensor(array, device="cpu")


# ---- plans ----


def test_a_plan_is_made_once_per_signature() -> None:
    device = Counting(add=frozenset())
    x, y = on(device, 3, 4), on(device, 3, 4)
    for _ in range(3):
        x + y
    assert device.asked == ["add"]
    assert device.work.launches == 3
    on(device, 2) + on(device, 2)
    x.mT + y.mT
    assert device.asked == ["add"] * 3, "another shape or other strides are another signature"


def test_offsets_are_no_part_of_a_signature() -> None:
    device = Counting(add=frozenset())
    x = on(device, 8, 4)
    for row in range(7):
        x[row] + x[row + 1]
    assert device.asked == ["add"]


def test_kinds_of_plans() -> None:
    device = device_for("cpu")
    matrix = Layout.contiguous(Spec((3, 4), dtypes.float32))
    row = Layout.contiguous(Spec((4,), dtypes.float32))
    ints = Layout.contiguous(Spec((3, 4), dtypes.int32))
    turned = Layout((4, 3), (1, 4), dtypes.float32)
    assert isinstance(lower(Add(), [matrix, matrix], device), RunKernel)
    assert isinstance(lower(Permute(axes=(1, 0)), [matrix], device), MakeView)
    assert isinstance(lower(Reshape(shape=(12,)), [turned], device), Compose)
    plan = lower(Add(), [matrix, row], device)
    assert isinstance(plan, Adjust)
    assert plan.changes == ((None, None), (None, (3, 4)))
    plan = lower(Add(), [ints, row], device)
    assert isinstance(plan, Adjust)
    assert plan.changes == ((dtypes.float32, None), (None, (3, 4)))
    plan = lower(Exp(), [ints], device)
    assert isinstance(plan, Adjust)
    assert plan.changes == ((dtypes.float32, None),)


def test_copies_are_made_where_a_kernel_wants_row_major_operands() -> None:
    class Picky(Counting):
        def kernel(self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Any:
            kernel = super().kernel(op, inputs, outputs)
            if op.name == "add":
                kernel.contiguous = (0, 1)  # type: ignore[union-attr]
            return kernel

    device = Picky(add=frozenset(), contiguous=frozenset())
    x = on(device, 3, 3)
    x.mT + x
    assert device.asked == ["add", "contiguous"]
    assert device.work.launches == 2


# ---- compositions ----


def test_what_has_no_kernel_is_composed() -> None:
    device = Counting(add=frozenset(), neg=frozenset())
    on(device, 3) - on(device, 3)
    assert device.asked == ["sub", "neg", "add"]


def test_a_primitive_without_a_kernel_is_an_error() -> None:
    with pytest.raises(UnsupportedOp) as caught:
        on(Counting(), 3).exp()
    assert str(caught.value) == "exp cannot run on null: no kernel for exp [float32, null]"


def test_a_kernel_that_does_not_know_a_parameter_is_not_used() -> None:
    device = Counting(gelu=frozenset())
    x = [Layout.contiguous(Spec((3,), dtypes.float32))]
    assert isinstance(lower(Gelu(), x, device), RunKernel), "the default is what it always meant"
    plan = lower(Gelu(approximate="tanh"), x, device)
    assert isinstance(plan, Compose)
    assert plan.reason == "its kernel does not know approximate"


def test_strict_makes_compositions_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Counting(add=frozenset(), neg=frozenset())
    monkeypatch.setenv("GROUNDUP_STRICT", "1")
    with pytest.raises(UnsupportedOp) as caught:
        Sub()(on(device, 3), on(device, 3))
    assert str(caught.value) == (
        "sub would be composed on null: no kernel for sub [float32, null] "
        "(GROUNDUP_STRICT=1 forbids compositions)"
    )
    on(device, 3) + on(device, 3)
    monkeypatch.setenv("GROUNDUP_STRICT", "0")
    Sub()(on(device, 3), on(device, 3))


def test_strict_leaves_the_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDUP_STRICT", "1")
    x = cpu(np.arange(35, dtype=np.float32).reshape(5, 7))
    ((x.mT @ x).exp().relu() - x.sum()).mean()


def test_an_unknown_dtype_is_named_with_a_way_out() -> None:
    class Narrow(NullDevice):
        def describe(self) -> Any:
            import attrs

            info = super().describe()
            some = {d: k for d, k in info.dtypes.items() if d not in (dtypes.int64, dtypes.float64)}
            return attrs.evolve(info, name="narrow", dtypes=some)

    device = Narrow()
    device.info = device.describe()
    with pytest.raises(UnsupportedDtype) as caught:
        on(device, 3).astype("float64")
    assert "cast: narrow has no float64 (out)" in str(caught.value)
    assert "use x.astype(groundup.float32)" in str(caught.value)
    with pytest.raises(UnsupportedDtype, match=r"use x.astype\(groundup.int32\)"):
        on(device, 3).astype("int64")
    with pytest.raises(UnsupportedDtype, match="tensor: narrow cannot store float64"):
        gu.tensor(np.zeros(3), device=device)


# ---- overrides ----


class Added(Kernel):
    def __init__(self, ran: list[str]) -> None:
        self.ran = ran

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        raise AssertionError("launch is the shorter way")

    def launch(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> None:
        self.ran.append("added")


def added(op: str, factory: KernelFactory) -> dict[str, Override]:
    """What a device's `overrides` are where a package adds that kernel."""
    override = Override(op, "null")
    override.add(Kernels({op: factory}, provider="a package"), "plugin")
    return {op: override}


def test_an_added_kernel_comes_first_and_may_decline() -> None:
    ran: list[str] = []

    def factory(device: Device, op: Op, inputs: Any, outputs: Any) -> Kernel | Declined:
        return Added(ran) if inputs[0].size > 2 else Declined("too small")

    device = Counting(exp=frozenset())
    device.overrides = added("exp", factory)
    on(device, 3).exp()
    assert (ran, device.work.launches) == (["added"], 0)
    on(device, 2).exp()
    assert (ran, device.work.launches) == (["added"], 1)


def test_an_added_kernel_must_know_the_parameters_too() -> None:
    device = Counting(gelu=frozenset({"approximate"}))
    device.overrides = added("gelu", lambda device, op, inputs, outputs: Added([]))
    x = [Layout.contiguous(Spec((3,), dtypes.float32))]
    plan = lower(Gelu(approximate="tanh"), x, device)
    assert isinstance(plan, RunKernel)
    assert not isinstance(plan.kernel, Added)
    device.overrides = {"gelu": lambda device, op, inputs, outputs: Added([])}
    assert isinstance(lower(Gelu(approximate="tanh"), x, device), Compose)


def test_where_all_decline_each_is_asked_once_and_named() -> None:
    device = Counting()
    device.overrides = added("gelu", lambda device, op, inputs, outputs: Declined("too small"))
    plan = lower(Gelu(), [Layout.contiguous(Spec((3,), dtypes.float32))], device)
    assert isinstance(plan, Compose)
    assert plan.reason == "a package: too small; null: no kernel for gelu"
    assert device.asked == ["gelu"]


# ---- devices ----


def test_tensors_of_two_devices_do_not_mix() -> None:
    x, y = on(Counting(), 3), cpu([1.0, 2.0, 3.0])
    for call in (lambda: x + y, lambda: y + x, lambda: y @ x):
        with pytest.raises(DeviceMismatch) as caught:
            call()
        assert "float32[3] on null" in str(caught.value)
        assert "float32[3] on cpu" in str(caught.value)
        assert "use x.to(device)" in str(caught.value)


def test_an_op_without_tensors_says_so() -> None:
    with pytest.raises(TypeError, match="at least one tensor"):
        gu.ops.add(1, 2)


# ---- promotion and weak numbers ----

TABLE = {
    ("bool", "int32"): "int32",
    ("bool", "float16"): "float16",
    ("uint8", "int8"): "int32",
    ("uint8", "int32"): "int32",
    ("int8", "int64"): "int64",
    ("int32", "float16"): "float16",
    ("int64", "float32"): "float32",
    ("float16", "bfloat16"): "float32",
    ("float16", "float32"): "float32",
    ("bfloat16", "float32"): "float32",
    ("float32", "float64"): "float64",
}


@pytest.mark.parametrize(("pair", "wanted"), TABLE.items())
def test_promotion(pair: tuple[str, str], wanted: str) -> None:
    for one, two in (pair, pair[::-1]):
        x, y = gu.ones(2, dtype=one, device="cpu"), gu.ones(2, dtype=two, device="cpu")
        assert (x + y).dtype.name == wanted
        assert (x + y).tolist() == [2, 2]


def test_promotion_is_a_lattice() -> None:
    for a, b in itertools.product(dtypes.ALL, repeat=2):
        assert promote(a, b) is promote(b, a)
        assert promote(a, a) is a
        joined = promote(a, b)
        assert promote(joined, a) is joined
        assert promote(joined, b) is joined


@pytest.mark.parametrize("dtype", dtypes.ALL)
def test_python_numbers_are_weak(dtype: dtypes.DType) -> None:
    x = gu.ones(2, dtype=dtype, device="cpu")
    assert (x & True if dtype is dtypes.bool_ else x * True).dtype is dtype
    assert (x * 2).dtype is (dtypes.int32 if dtype is dtypes.bool_ else dtype)
    assert (x * 0.5).dtype is (dtype if dtype.is_floating else dtypes.float32)
    assert (0.5 * x).dtype is (x * 0.5).dtype


def test_a_number_beside_two_tensors_takes_their_common_dtype() -> None:
    half = gu.ones(2, dtype="float16", device="cpu")
    single = gu.ones(2, dtype="float32", device="cpu")
    condition = single > 0
    assert gu.ops.where(condition, half, 1.0).dtype is dtypes.float16
    assert gu.ops.where(condition, 1.0, single).dtype is dtypes.float32


def test_numbers_that_do_not_fit() -> None:
    x = gu.ones(2, dtype="uint8", device="cpu")
    with pytest.raises(DTypeError, match=r"add: 300 does not fit uint8 \(0 to 255\)"):
        x + 300
    with pytest.raises(DTypeError, match="-1 does not fit uint8"):
        x + -1


@pytest.mark.parametrize("value", ["text", None, [1.0], np.ones(2), 1j])
def test_other_things_are_refused(value: Any) -> None:
    with pytest.raises(DTypeError, match=r"add: cannot use a \w+ here"):
        gu.ones(2, device="cpu") + value


def test_numpy_scalars_are_numbers() -> None:
    x = gu.ones(2, dtype="float16", device="cpu")
    assert (x + np.float64(2)).dtype is dtypes.float16
    assert (x + np.int64(2)).tolist() == [3.0, 3.0]


def test_constants_are_told_apart_by_their_bits() -> None:
    x = gu.zeros(1, device="cpu")
    assert np.signbit((x * -0.0).numpy()).tolist() == [True]
    assert np.signbit((x * 0.0).numpy()).tolist() == [False]
    ints = gu.ones(1, dtype="int32", device="cpu")
    assert (ints + 1).dtype is dtypes.int32
    assert (ints + True).dtype is dtypes.int32
    assert (ints + 1.0).dtype is dtypes.float32


def test_ops_are_interned_by_their_bits() -> None:
    from groundup.ops.selection import Clamp

    assert Silu() is Silu()
    assert Gelu() is Gelu(approximate="none")
    assert Clamp(min=0.0) is not Clamp(min=-0.0)
    assert Clamp(min=1) is not Clamp(min=True)
    assert Clamp(min=1) is not Clamp(min=1.0)


# ---- updates ----


def test_ops_that_nothing_refers_to_are_forgotten() -> None:
    """A program that slices at ever new places would fill the memory."""
    op = Gelu(approximate="tanh")
    assert Gelu(approximate="tanh") is op
    forgotten = weakref.ref(Permute(axes=(3, 1, 2, 0)))
    assert forgotten() is None
    assert Gelu(approximate="none") is Gelu(approximate="none")


def test_update_writes_into_the_aliased_input() -> None:
    from groundup.ops.movement import Assign

    x, y = cpu([1.0, 2.0]), cpu([3.0, 4.0])
    version = x._view.version
    dispatch.update(Assign(), (x, y))
    assert x.tolist() == [3.0, 4.0]
    assert x._view.version == version + 1


def test_update_without_an_in_place_kernel_copies_back() -> None:
    from groundup.ops.movement import Assign

    class NotInPlace(Counting):
        def kernel(self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Any:
            kernel = super().kernel(op, inputs, outputs)
            if op.name == "add_into":
                kernel.in_place = {}  # type: ignore[union-attr]
            return kernel

    class AddInto(Op):
        """x + y in the memory of x, unregistered."""

        name = "add_into"
        aliases = {0: 0}  # noqa: RUF012

        def infer(self, x: Spec, y: Spec) -> Spec:
            return x

    device = NotInPlace(add_into=frozenset(), assign=frozenset())
    x, y = on(device, 3), on(device, 3)
    dispatch.update(AddInto(), (x, y))
    assert device.asked == ["add_into", "assign"]
    assert x._view.version >= 1
    assert isinstance(Assign(), Op)


def test_assigning_needs_a_kernel_that_works_in_place() -> None:
    """Everything that writes ends there, so without one it would go round in circles."""

    class NotInPlace(Counting):
        def kernel(self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Any:
            kernel = super().kernel(op, inputs, outputs)
            kernel.in_place = {}  # type: ignore[union-attr]
            return kernel

    device = NotInPlace(assign=frozenset())
    with pytest.raises(UnsupportedOp, match=r"assign: null has no kernel that works in place"):
        on(device, 3).assign_(on(device, 3))


def test_update_checks_devices() -> None:
    from groundup.ops.movement import Assign

    with pytest.raises(DeviceMismatch):
        dispatch.update(Assign(), (cpu([1.0]), on(Counting(), 1)))

"""Each way of running a case sees the bugs that it is there for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest

from groundup import dtypes
from groundup.ops.op import REGISTRY, Op
from groundup.ops.third_party import all_ops
from groundup_conformance import cases, running
from groundup_conformance.budgets import IEEE, WGSL, Expected
from groundup_conformance.budgets.units import flushed
from groundup_conformance.cases import Check
from groundup_conformance.judging import sum_of
from groundup_conformance.running import Failed, Figures, Oracle
from groundup_cpu_ref.device import CpuDevice
from groundup_cpu_ref.native import NATIVE, Native

Array = np.ndarray[Any, np.dtype[Any]]
Kernel = Callable[..., Any]
Plant = Callable[..., None]

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture
def device() -> CpuDevice:
    """One of its own: plans hold kernels."""
    return CpuDevice()


@pytest.fixture
def oracle() -> Oracle:
    return Oracle(IEEE)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch, device: CpuDevice) -> Plant:
    def planted(name: str, function: Kernel, in_place: bool = False) -> None:
        kernel = Native(function, NATIVE[name].params, in_place, False)
        monkeypatch.setitem(NATIVE, name, kernel)

    return planted


def check(generator: Any, name: str, device: CpuDevice) -> Check:
    op = name.partition("[")[0]
    [found] = [c for c in generator({op: all_ops()[op]}, device.info) if str(c.id) == name]
    return found  # type: ignore[no-any-return]


def base(x: Array) -> Array:
    """The memory below a view, as far as it is an array."""
    while isinstance(x.base, np.ndarray) and x.base.dtype == x.dtype:
        x = x.base
    return x


def dense(x: Array) -> Array:
    """What a kernel reads that knows no strides."""
    start = (x.__array_interface__["data"][0] - base(x).__array_interface__["data"][0]) // 4
    flat = base(x).reshape(-1)
    return np.resize(flat[max(start, 0) :], x.shape)


BUGS: list[tuple[str, str, Kernel]] = [
    ("layout", "exp[float32,matrix,transposed,forward]",
     lambda op, x, out: np.exp(dense(x), out)),
    ("spaces", "exp[float32,matrix,spaced,forward]",
     lambda op, x, out: np.exp(dense(x), out)),
    ("nan", "maximum[float32,special,given,forward]",
     lambda op, x, y, out: np.fmax(x, y, out)),
    ("tail", "exp[float32,matrix-7to65,given,forward]",
     lambda op, x, out: np.exp(x[..., : x.shape[-1] // 4 * 4], out[..., : x.shape[-1] // 4 * 4])),
    ("clipped", "exp[float32,grid,given,forward]",
     lambda op, x, out: np.exp(x[: 65535 * 64], out[: 65535 * 64])),
    ("halves", "matmul[float32,odd,given,forward]",
     lambda op, x, y, out: np.matmul(x.astype("f2").astype("f4"), y.astype("f2"), out)),
    ("shift", "softmax[float32,large,given,forward]",
     lambda op, x, out: np.divide(np.exp(x), np.exp(x).sum(-1, keepdims=True), out)),
]  # fmt: skip


@pytest.mark.parametrize(("case", "bug"), [b[1:] for b in BUGS], ids=[b[0] for b in BUGS])
def test_forward(case: str, bug: Kernel, device: CpuDevice, oracle: Oracle, plant: Plant) -> None:
    generator = cases.grid if ",grid," in case else cases.forward
    found = check(generator, case, device)
    figures = running.forward(found, device, oracle)
    assert figures.ratio is not None
    assert figures.ratio <= 1
    plant(case.partition("[")[0], bug)
    with pytest.raises(Failed) as caught:
        running.forward(found, CpuDevice(), oracle)
    assert caught.value.figures.ratio is None or caught.value.figures.ratio > 1


def test_every_sample_that_passes_has_figures(device: CpuDevice, oracle: Oracle) -> None:
    for found in cases.forward({"softmax": all_ops()["softmax"]}, device.info):
        figures = running.forward(found, device, oracle)
        assert figures.ratio is not None
        assert 0 <= figures.ratio <= 1


def test_gradients_of_the_wrong_size(
    device: CpuDevice, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check(cases.gradients, "tanh[float32,matrix,given,gradient]", device)
    assert running.gradient(found, device, oracle).ratio is not None
    right = REGISTRY["tanh"].vjp

    def wrong(self: Op, ctx: Any, grad: Any) -> Any:
        return (right(self, ctx, grad)[0] * 0.9999,)  # type: ignore[operator]

    monkeypatch.setattr(REGISTRY["tanh"], "vjp", wrong)
    with pytest.raises(Failed, match=r"the gradient of x.*\n*.*0\.9999 times"):
        running.gradient(found, device, oracle)


def test_a_gradient_that_is_dropped(
    device: CpuDevice, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check(cases.gradients, "mul[float32,matrix,given,gradient]", device)
    right = REGISTRY["mul"].vjp
    monkeypatch.setattr(
        REGISTRY["mul"], "vjp", lambda self, ctx, grad: (right(self, ctx, grad)[0], None)
    )
    with pytest.raises(Failed, match="the gradient of y is missing"):
        running.gradient(found, device, oracle)


def test_one_tensor_as_two_inputs(
    device: CpuDevice, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check(cases.aliases, "mul[float32,matrix,given,shared]", device)
    assert running.shared(found, device, oracle).ratio is not None
    right = REGISTRY["mul"].vjp
    monkeypatch.setattr(
        REGISTRY["mul"], "vjp", lambda self, ctx, grad: (right(self, ctx, grad)[0], None)
    )
    with pytest.raises(Failed, match="one tensor as 2 inputs"):
        running.shared(found, device, oracle)


def test_inputs_that_overlap(device: CpuDevice, oracle: Oracle, plant: Plant) -> None:
    found = check(cases.aliases, "add[float32,matrix,given,overlap]", device)
    assert isinstance(running.overlap(found, device, oracle), Figures)
    plant("add", lambda op, x, y, out: (np.add(x, y, out), x.__iadd__(1)))
    with pytest.raises(Failed, match="input was changed"):
        running.overlap(found, CpuDevice(), oracle)


def test_updates_in_place(device: CpuDevice, oracle: Oracle, plant: Plant) -> None:
    name = "scatter_add[float32,vector,given,in-place]"
    found = check(cases.aliases, name, device)
    running.in_place(found, device, oracle)

    def wrong(op: Op, x: Array, indices: Array, source: Array, out: Array) -> None:
        in_place = out.__array_interface__["data"] == x.__array_interface__["data"]
        np.copyto(out, x)
        np.add.at(out, indices, source * (2 if in_place else 1))

    plant("scatter_add", wrong, in_place=True)
    with pytest.raises(Failed, match="in place, x is not what the op returns"):
        running.in_place(found, CpuDevice(), oracle)


def test_duplicates_that_are_lost(device: CpuDevice, oracle: Oracle, plant: Plant) -> None:
    found = check(cases.forward, "scatter_add[float32,repeated,given,forward]", device)
    running.forward(found, device, oracle)

    def wrong(op: Op, x: Array, indices: Array, source: Array, out: Array) -> None:
        np.copyto(out, x)
        out[indices] += source

    plant("scatter_add", wrong)
    with pytest.raises(Failed):
        running.forward(found, CpuDevice(), oracle)


def test_memory_that_is_never_written(device: CpuDevice, oracle: Oracle, plant: Plant) -> None:
    """A bool has no NaN: only the second run, on the other poison, gives it away."""
    found = check(cases.repeats, "isnan[float32,matrix,given,twice]", device)
    running.twice(found, device, oracle)
    plant("isnan", lambda op, x, out: np.isnan(x[:-1], out[:-1]))
    with pytest.raises(Failed, match="differs between two runs"):
        running.twice(found, CpuDevice(), oracle)


def test_refusals(device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    found = check(cases.refusals, "matmul[float32,bad0,given,ShapeError]", device)
    running.refusal(found, device)
    monkeypatch.setattr(
        REGISTRY["matmul"], "infer", lambda self, x, y: type(x)((1,), dtypes.float32)
    )
    with pytest.raises((Failed, ValueError)):
        running.refusal(found, CpuDevice())


def test_a_dtype_that_is_accepted_though_undeclared(device: CpuDevice) -> None:
    sample = next(iter(cases.forward({"exp": all_ops()["exp"]}, device.info)))
    with pytest.raises(Failed, match="accepted"):
        running.undeclared(sample, device)
    narrow = CpuDevice()
    narrow.info = attrs.evolve(narrow.info, dtypes={dtypes.float64: frozenset({"store"})})
    running.undeclared(sample, narrow)


@pytest.mark.parametrize("name", ["sqrt", "log", "logical_not"])
def test_subnormal_inputs_may_be_read_as_zero_on_wgsl_only(
    name: str, device: CpuDevice, plant: Plant
) -> None:
    def flushing(op: Op, x: Array, out: Array) -> None:
        getattr(np, name)(flushed(x), out)

    plant(name, flushing)
    case = check(cases.forward, f"{name}[float32,extreme,given,forward]", device)
    running.forward(case, device, Oracle(WGSL))
    with pytest.raises(Failed):
        running.forward(case, device, Oracle(IEEE))


def test_gradients_of_subnormal_inputs_read_as_zero_on_wgsl_only(
    device: CpuDevice, plant: Plant
) -> None:
    """Of the square root: infinite for zeros, finite for what was read as such."""
    plant("sqrt", lambda op, x, out: np.sqrt(flushed(x), out))
    case = check(cases.forward, "sqrt[float32,extreme,given,forward]", device)
    running.gradient(case, device, Oracle(WGSL))
    with pytest.raises(Failed, match="the gradient of x"):
        running.gradient(case, device, Oracle(IEEE))


def test_the_sum_of_gradients_may_be_that_of_the_flushed() -> None:
    one = Expected(np.array([4.0]), dtypes.float32, np.zeros(1), WGSL)
    zero = attrs.evolve(one, value=np.array([0.0]))
    total = sum_of([attrs.evolve(one, flushed=zero), None, one])
    assert total is not None
    for value, right in ((8.0, True), (4.0, True), (0.0, False), (6.0, False)):
        assert total.judge(np.array([value], np.float32)).ok is right


def test_the_sum_of_gradients_is_infinite_where_one_is() -> None:
    part = Expected(np.array([np.inf, 1.0]), dtypes.float32, np.zeros(2), IEEE)
    for parts, second in (([part], 1.0), ([part, part], 2.0)):
        total = sum_of(parts)
        assert total is not None
        assert total.judge(np.array([np.inf, second], np.float32)).ok
        for first in (-np.inf, 7.0, np.nan):
            assert not total.judge(np.array([first, second], np.float32)).ok

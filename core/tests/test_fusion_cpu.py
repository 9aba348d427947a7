"""Fused ops on the cpu: blocks, threads, strides, scratch; the bits are those of single ops."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch, dtypes
from groundup.backends.devices import device_for
from groundup.layout import Layout
from groundup.ops.fusion import Body, Fused
from groundup.tensor import Tensor

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
UNARY: Final = (
    "abs", "neg", "exp", "tanh", "floor", "sqrt", "sigmoid", "relu", "silu", "erf", "sin", "sign",
)  # fmt: skip
BINARY: Final = ("add", "sub", "mul", "div", "maximum", "minimum", "pow", "remainder")
SHAPES: Final = ((7,), (300, 500), (3, 70_001), (40, 50, 60), (2, 1, 90_000))


def random_body(rng: np.random.Generator, inputs: int) -> Body:
    """Steps that read inputs, numbers and each other; the last joins what nobody has read."""
    steps: list[Any] = []
    unread, known = list(range(inputs)), list(range(inputs))

    def place() -> int:
        if unread and (rng.random() < 0.7 or len(steps) > 12):
            return unread.pop(int(rng.integers(len(unread))))
        return known[int(rng.integers(len(known)))]

    while len(steps) < 6 or len(unread) > 1:
        kind = rng.random() if len(steps) < 12 else 1.0
        if kind < 0.4 and len(unread) < 3:
            steps.append((str(rng.choice(UNARY)), (), (place(),)))
        elif kind < 0.5:
            number = (float(np.float32(rng.standard_normal())),)
            pair = (place(), number) if rng.random() < 0.5 else (number, place())
            steps.append((str(rng.choice(BINARY)), (), pair))
        elif kind < 0.6:
            steps.append(("greater", (), (place(), (0.25,))))
            steps.append(("where", (), (~(len(steps) - 1), place(), place())))  # of the bools
        else:
            steps.append((str(rng.choice(BINARY)), (), (place(), place())))
        unread.append(~(len(steps) - 1))
        known.append(unread[-1])
    return tuple(steps)


def operand(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Tensor:
    """Row-major, turned, strided, flipped or broadcast."""
    kind = rng.integers(5)
    wide = tuple(2 * n for n in shape) if kind == 1 else shape[::-1] if kind == 2 else shape
    if kind == 3:
        wide = tuple(1 if rng.random() < 0.5 else n for n in shape)
    x = gu.tensor(rng.standard_normal(wide, np.float32)).astype(dtype)
    if kind == 1:
        return x[tuple(slice(None, None, 2) for _ in shape)]
    if kind == 2:
        return x.permute(*range(x.ndim - 1, -1, -1))
    return x.flip(0) if kind == 4 else x.expand(*shape)


@pytest.mark.parametrize("seed", range(60))
def test_random_bodies(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = SHAPES[seed % len(SHAPES)]
    dtype = "float32" if seed % 4 else ("float64", "bfloat16", "float16")[seed // 4 % 3]
    op = Fused(body=random_body(rng, int(rng.integers(1, 5))))
    count = 1 + max(p for s in op.steps for p in s.operands if isinstance(p, int))
    inputs = [operand(rng, shape, dtype) for _ in range(count)]
    fused, alone = op(*inputs), op.compose(*inputs)
    assert fused.spec is alone.spec
    np.testing.assert_array_equal(bits(fused), bits(alone), err_msg=op.title)


def bits(t: Tensor) -> Any:
    """Numbers as they lie: NaN equals NaN, 0.0 is not -0.0."""
    return np.ascontiguousarray(t.numpy()).view(np.uint8)


def test_the_result_may_take_over_an_input() -> None:
    """Also where the last function reads its operands twice: then it is not in place."""
    device = device_for("cpu")
    for last, allowed in ((("add", (), (~0, 0)), {0: 0}), (("where", (), (1, 0, ~0)), {})):
        op = Fused(body=(("exp", (), (0,)), last), in_place=True)
        x = gu.tensor(np.linspace(-2, 2, 200_000, dtype=np.float32))
        inputs = [x, x > 0][: 1 + (last[0] == "where")]
        layouts = [t._view.layout for t in inputs]
        kernel = device.kernel(op, layouts, [layouts[0]])
        assert kernel.in_place == allowed
        wanted = op.compose(*inputs)
        if allowed:
            views = [t._view for t in inputs]
            scratch = device.empty(Layout((kernel.workspace,), (1,), dtypes.uint8))
            kernel.bind(views, views[:1], scratch)()
            np.testing.assert_array_equal(bits(x), bits(wanted))


def test_a_replay_allocates_nothing() -> None:
    import tracemalloc

    op = Fused(body=(("mul", (), (0, 1)), ("tanh", (), (~0,)), ("add", (), (~1, (1.0,)))))
    x = gu.ones(500, 700)
    device = x.device
    layouts = [x._view.layout] * 2
    kernel = device.kernel(op, layouts, layouts[:1])
    out, scratch = (
        device.empty(layouts[0]),
        device.empty(Layout((kernel.workspace,), (1,), dtypes.uint8)),
    )
    launch = kernel.bind([x._view, x._view], [out], scratch)
    replay = device.record([launch])
    replay()
    tracemalloc.start()
    replay()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000  # threads and futures, no arrays


def test_a_kernel_of_another_package_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that this device has no kernel for makes the op a composition."""
    from groundup_cpu_ref.native import NATIVE

    op = Fused(body=(("exp", (), (0,)), ("neg", (), (~0,))))
    layout = gu.ones(3)._view.layout
    monkeypatch.delitem(NATIVE, "neg")
    found = device_for("cpu").kernel(op, [layout], [layout])
    assert "no kernel for neg" in found.reason


def test_bodies_print_as_expressions() -> None:
    body = (("abs", (), (0,)), ("mul", (), (~0, (2.0,))), ("div", (), (~0, ~1)))
    assert Fused(body=body).title == "fused[t0 = abs(a); div(t0, mul(t0, 2.0))]"
    assert dispatch.apply(Fused(body=body), (gu.ones(2),)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "int8", "bool"])
def test_where_moves_bits(dtype: str) -> None:
    """In blocks, and on strides that no block has; NaN and -0.0 as they are."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((400, 300)) * 3 for _ in range(2))
    x[0, :4] = np.nan, -0.0, np.inf, 0.0
    kind = dtypes.as_dtype(dtype).numpy
    x, y, mask = x.astype(kind), y.astype(kind), rng.random((400, 300)) < 0.5
    for cut in (np.s_[:, :], np.s_[::3, ::-2], np.s_[:5, :5]):
        parts = [gu.tensor(np.ascontiguousarray(a))[cut] for a in (mask, x, y)]
        wanted = np.where(mask[cut], x[cut], y[cut])
        assert bits(gu.where(*parts)).tobytes() == np.ascontiguousarray(wanted).tobytes()


def test_sigmoid_in_blocks() -> None:
    x = np.concatenate([np.linspace(-120, 120, 100_000), [np.nan, np.inf, -np.inf, -0.0]])
    got = gu.tensor(x.astype(np.float32)).sigmoid().numpy()
    with np.errstate(over="ignore"):
        wanted = 1 / (1 + np.exp(-x.astype(np.float32).astype(np.float64)))
    np.testing.assert_allclose(got, wanted, rtol=4e-7, atol=2e-45)

"""Launches: replayed programs, operands that share a buffer, what is kept between launches."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Kernel, Launch, Unavailable, View
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup.ops.arithmetic import Add, Mul
from groundup.ops.op import Op
from groundup_webgpu import binding
from groundup_webgpu.backend import WebGpuBackend
from groundup_webgpu.device import WebGpuDevice

PROBE = WebGpuBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"webgpu: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)
DEVICE = "webgpu:0"


@pytest.fixture
def device() -> WebGpuDevice:
    found = g.device_for(DEVICE)
    assert isinstance(found, WebGpuDevice)
    return found


def bound(device: WebGpuDevice, op: Op, inputs: Sequence[View], outputs: Sequence[View]) -> Launch:
    kernel = device.kernel(op, [v.layout for v in inputs], [v.layout for v in outputs])
    assert isinstance(kernel, Kernel)
    scratch = None
    if kernel.workspace:
        scratch = device.empty(Layout.contiguous(Spec((kernel.workspace,), g.uint8)))
    return kernel.bind(inputs, outputs, scratch)


def chain(device: WebGpuDevice, links: int) -> tuple[View, View, list[Launch]]:
    """x, x * 1.5 + 1 repeated, and the launches; nothing but those holds what lies between."""
    first = last = g.ones(5, device=device)._view
    factor, one = (g.full(5, value, device=device)._view for value in (1.5, 1.0))
    launches = []
    for i in range(links):
        op, other = (Mul(), factor) if i % 2 == 0 else (Add(), one)
        out = device.empty(first.layout)
        launches.append(bound(device, op, (last, other), (out,)))
        last = out
    return first, last, launches


def test_a_recorded_program_replays_its_launches(device: WebGpuDevice) -> None:
    first, last, launches = chain(device, 500)
    replay = device.record(launches)
    del launches
    gc.collect()
    waste = [g.full(5, -1.0, device=device) for _ in range(600)]  # takes whatever was given back
    for start in (1.0, -0.25):
        device.write(first, np.full(5, start, np.float32))
        replay()
        wanted = np.float32(start)
        with np.errstate(over="ignore"):
            for _ in range(250):
                wanted = wanted * np.float32(1.5) + np.float32(1)
        np.testing.assert_allclose(device.read(last), np.full(5, wanted), rtol=1e-5)
    assert all(t.tolist() == [-1] * 5 for t in waste[::100])


def test_a_recorded_program_may_hold_launches_of_others(device: WebGpuDevice) -> None:
    _, last, launches = chain(device, 4)
    seen: list[str] = []

    class Foreign:
        def __call__(self) -> None:
            seen.append("here")

        def describe(self) -> dict[str, object]:
            return {"kernel": "foreign"}

    replay = device.record([*launches, Foreign()])
    replay()
    assert seen == ["here"]
    np.testing.assert_allclose(device.read(last), np.full(5, 4.75))
    device.record([])()


def test_replays_make_nothing_new(device: WebGpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = device.record(chain(device, 20)[2])
    x = g.ones(5, device=device)

    def step() -> None:
        replay()
        ((x + x) * x).sum()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made anew")

    for _ in range(3):
        step()
    for name in ("create_bind_group", "create_buffer", "create_compute_pipeline"):
        monkeypatch.setattr(type(device._gpu), name, refuse)
    for _ in range(3):
        step()


def test_a_full_page_of_parameters(device: WebGpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = bound(device, Add(), [g.ones(3, device=device)._view] * 2, [out := empty(device, 3)])
    monkeypatch.setattr(binding, "_PAGE", 16 * 256)
    device.binder._filled = device.binder._page.size
    whole = g.arange(400, dtype="float32", device=device)
    total = sum((whole[i : i + 4] + whole[2 * i : 2 * i + 4]).sum().item() for i in range(100))
    assert total == sum(3 * 4 * i + 12 for i in range(100))
    kept()
    assert device.read(out).tolist() == [2, 2, 2]


def empty(device: WebGpuDevice, *shape: int, dtype: str = "float32") -> View:
    return device.empty(Layout.contiguous(Spec(shape, g.dtypes.as_dtype(dtype))))


def test_few_bind_groups_are_kept(device: WebGpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "_KEPT", 4)
    monkeypatch.setattr("groundup_webgpu.device._CACHED", 4)
    tensors = [g.full(3, i, device=device) for i in range(12)]
    sums = [(tensors[i] + tensors[j]).tolist()[0] for i in range(12) for j in range(12)]
    assert sums == [i + j for i in range(12) for j in range(12)]
    assert len(device.bound) <= 4
    assert len(device.binder._groups) <= 4


def test_constants_share_pipelines(device: WebGpuDevice) -> None:
    g.full(3, 0.5, device=device).sum().item()
    before = len(device.binder._pipelines)
    for i in range(20):
        assert g.full(3, 0.1 * i, device=device).tolist() == pytest.approx([0.1 * i] * 3)
    assert len(device.binder._pipelines) == before


def test_threads_share_the_queue(device: WebGpuDevice) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        x = g.full(7, float(number), device=device)
        for turn in range(60):
            y = x + float(turn)
            if turn % 20 == 19 and y.tolist() != [number + turn] * 7:
                wrong.append((number, turn, y.tolist()))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_memory_is_found_while_another_thread_has_the_queue(device: WebGpuDevice) -> None:
    thread = threading.Thread(target=device.pool.take, args=(77 << 20,))
    with device.stream.lock:
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), "a buffer that died here would wait for it forever"
    device.pool.trim()


class Arena:
    """One buffer that all operands of a launch come from, as a planned program has it."""

    def __init__(self, device: WebGpuDevice) -> None:
        self.device = device
        self.buffer = device.pool.take(1 << 20)
        self.used = 0

    def place(self, shape: tuple[int, ...], dtype: g.dtypes.DType) -> View:
        layout = Layout.contiguous(Spec(shape, dtype))
        view = View(self.buffer, self.used, layout)
        nbytes = layout.size * self.device.info.itemsize(dtype)
        self.used += -(-nbytes // self.device.info.alignment) * self.device.info.alignment
        return view

    def put(self, array: np.ndarray) -> View:
        view = self.place(array.shape, g.dtypes.as_dtype(array.dtype))
        self.device.write(view, array)
        return view


RNG = np.random.default_rng(5)
FLOATS = RNG.standard_normal((12, 8)).astype(np.float32)
WIDE = RNG.standard_normal((8, 12)).astype(np.float32)
INTS = RNG.integers(0, 12, (12, 8)).astype(np.int32)
HALVES = FLOATS.astype(np.float16)
STATE = np.array([7, 9, 0, 3], np.int32)
SHARED: dict[str, tuple[str, dict[str, object], list[np.ndarray]]] = {
    "same dtype": ("add", {}, [FLOATS, FLOATS]),
    "bool from floats": ("less", {}, [FLOATS, WIDE.reshape(12, 8)]),
    "bool beside floats": ("where", {}, [FLOATS > 0, FLOATS, WIDE.reshape(12, 8)]),
    "float from ints": ("cast", {"dtype": g.float32}, [INTS]),
    "vectors": ("matmul", {}, [FLOATS, WIDE]),
    "no vectors": ("matmul", {}, [FLOATS[:, :7].copy(), WIDE[:7, :11].copy()]),
    "reduced": ("sum", {"axes": (0,)}, [FLOATS]),
    "maximum of bools": ("max", {"axes": (1,)}, [INTS]),
    "atomics": ("scatter_add", {"axis": 0}, [FLOATS, INTS, FLOATS]),
    "integer atomics": ("scatter_add", {"axis": 0}, [INTS, INTS, INTS]),
    "gathered": ("gather", {"axis": 0}, [FLOATS, INTS]),
    "padded": ("pad", {"before": (1, 0), "after": (0, 2)}, [FLOATS]),
    "random": ("random_bits", {"shape": (13,)}, [STATE]),
    "half of float": ("cast", {"dtype": g.float16}, [FLOATS]),
    "float of half": ("cast", {"dtype": g.float32}, [HALVES]),
    "halves": ("mul", {}, [HALVES, HALVES]),
    "half beside bool": ("where", {}, [FLOATS > 0, HALVES, HALVES]),
    "half vectors": ("matmul", {}, [HALVES, WIDE.astype(np.float16)]),
    "half atomics": ("scatter_add", {"axis": 0}, [HALVES, INTS, HALVES]),
}


@pytest.mark.parametrize("name", SHARED)
def test_operands_in_one_buffer(name: str, device: WebGpuDevice) -> None:
    op_name, fields, arrays = SHARED[name]
    if any(a.dtype == np.float16 for a in arrays) or fields.get("dtype") is g.float16:
        skip_without_halves(device)
    op = REGISTRY[op_name](**fields)
    specs = [Spec(a.shape, g.dtypes.as_dtype(a.dtype)) for a in arrays]
    out = op.infer(*specs)
    results = []
    for shared in (True, False):
        arena = Arena(device)
        views = []
        for array in arrays:
            views.append(arena.put(array))
            if not shared:
                arena = Arena(device)
        target = arena.place(out.shape, out.dtype)
        kernel = device.kernel(op, [v.layout for v in views], [target.layout])
        assert isinstance(kernel, Kernel)
        scratch = None
        if kernel.workspace:
            scratch = (arena if shared else Arena(device)).place((kernel.workspace,), g.uint8)
        replay = device.record([kernel.bind(views, [target], scratch)])
        replay()
        results.append(device.read(target))
        for view, array in zip(views, arrays, strict=True):
            np.testing.assert_array_equal(device.read(view), array)
    assert results[0].dtype == out.dtype.numpy
    np.testing.assert_array_equal(*results)
    assert np.any(results[0] != 0)


def test_a_long_reduction_in_one_buffer(device: WebGpuDevice) -> None:
    count = (1 << 20) + 70
    views = [View(buffer := device.pool.take(16 << 20), 0, Layout((count,), (1,), g.float32))]
    out = View(buffer, 8 << 20, Layout((), (), g.float32))
    scratch = View(buffer, 9 << 20, Layout((256,), (1,), g.uint8))
    device.write(views[0], np.ones(count, np.float32))
    kernel = device.kernel(REGISTRY["sum"](), [views[0].layout], [out.layout])
    assert isinstance(kernel, Kernel)
    assert kernel.workspace == 8
    kernel.bind(views, [out], scratch)()
    assert device.read(out) == count


def test_an_operand_may_be_written_over_by_its_result(device: WebGpuDevice) -> None:
    arena = Arena(device)
    x, y = arena.put(FLOATS), arena.put(FLOATS + 1)
    bound(device, Add(), (x, y), (x,))()
    np.testing.assert_array_equal(device.read(x), FLOATS + (FLOATS + 1))
    np.testing.assert_array_equal(device.read(y), FLOATS + 1)


def test_assign_writes_where_its_output_lies(device: WebGpuDevice) -> None:
    target = g.zeros(4, 6, device=device)
    value = g.arange(12, dtype="float32", device=device).reshape(4, 3)
    made = g.dispatch.apply(REGISTRY["assign"](), (target[:, ::2], value), device)
    np.testing.assert_array_equal(made.numpy(), value.numpy())
    assert not np.any(target.numpy())
    target[:, ::2] = value
    np.testing.assert_array_equal(target.numpy()[:, ::2], value.numpy())
    assert not np.any(target.numpy()[:, 1::2])


def skip_without_halves(device: WebGpuDevice) -> None:
    if g.float16 not in device.info.dtypes:
        pytest.skip("the adapter has no shader-f16")


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_half_words_are_written_and_read_alone(size: int, device: WebGpuDevice) -> None:
    skip_without_halves(device)
    whole = np.arange(20, dtype=np.float16)
    x = g.from_numpy(whole, device)
    for start in (0, 1, 2, 7):
        part = x[start : start + size]
        np.testing.assert_array_equal(part.numpy(), whole[start : start + size])
        new = np.arange(100, 100 + size, dtype=np.float16) + start
        device.write(part._view, new)
        whole[start : start + size] = new
        np.testing.assert_array_equal(x.numpy(), whole)


def test_halves_round_once_and_overflow_to_infinity(device: WebGpuDevice) -> None:
    skip_without_halves(device)
    array = np.array([65504, 6e-5, 6e-8, 0.1, -0.0, np.inf, np.nan], np.float16)
    x = g.from_numpy(array, device)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal((x + x).numpy(), array + array)
        np.testing.assert_array_equal((x * 3.0).numpy(), array * np.float16(3))
    ones = g.ones(5000, dtype="float16", device=device)
    assert ones.sum().item() == 5000, "added up in float32, then rounded"
    assert np.signbit((x[4:5] * 1.0).numpy())[0]
    signs = np.resize(np.array([1, -1], np.float16), (1 << 20) + 69)
    long = g.from_numpy(signs, device)
    assert (long.sum().item(), long.max().item(), (-long).max().item()) == (1, 1, 1)


def test_a_launch_describes_itself(device: WebGpuDevice) -> None:
    x = g.ones(3, device=device)._view
    told = bound(device, Add(), (x, x), (out := device.empty(x.layout),)).describe()
    assert told["kernel"] == "add"
    assert told["grid"] == [(1, 1, 1)]
    assert told["buffers"] == [(v.buffer.number, v.offset) for v in (out, x, x)]
    (source,), (parameters,) = told["source"], told["parameters"]  # type: ignore[misc]
    assert "a + b" in source
    assert parameters[:3] == (0, 0, 0), "the offsets come first"
    assert 3 in parameters


# ---- times and counts ----


def test_launches_are_timed_by_the_device(device: WebGpuDevice) -> None:
    if "timer" not in device.info.features:
        pytest.skip("the adapter has no timestamps")
    _, last, launches = chain(device, 4)
    seconds = device.timed(launches)
    assert len(seconds) == 4
    assert all(0 <= each < 60 for each in seconds)
    assert sum(seconds) > 0
    np.testing.assert_allclose(device.read(last), ((1 * 1.5 + 1) * 1.5 + 1) * np.ones(5))


def test_more_launches_than_one_set_of_queries_holds(
    device: WebGpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundup_webgpu.device._TIMED", 2)
    assert len(device.timed(chain(device, 5)[2])) == 5


def test_without_timestamps_the_clock_is_used(
    device: WebGpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WebGpuDevice, "_timestamps", False)
    assert all(seconds > 0 for seconds in device.timed(chain(device, 3)[2]))


def test_a_profile_has_device_times(device: WebGpuDevice) -> None:
    if "timer" not in device.info.features:
        pytest.skip("the adapter has no timestamps")
    x = g.ones(64, 64, device=device)
    with g.profile() as p:
        y = x @ x
    (product,) = (event for event in p.events if event.kind == "op")
    assert product.device_seconds is not None
    assert product.launches == 1
    np.testing.assert_array_equal(y.numpy(), np.full((64, 64), 64))


def test_a_pipeline_is_compiled_once(device: WebGpuDevice) -> None:
    x = g.ones(3, device=device)
    with g.counting(device) as first:
        (x * 2.0).tanh().expm1().tolist()
    with g.counting(device) as second:
        (x * 2.0).tanh().expm1().tolist()
    assert (second.compiled, second.launches, second.waits) == (0, first.launches, 1)

"""groundup.profile: what it records, to whom it belongs, and that it is gone afterwards."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from types import FrameType

import attrs
import numpy as np
import pytest

import groundup as gu
from groundup import nn, optim
from groundup.backends.api import Device, Launch
from groundup.backends.devices import device_for
from groundup.backends.null import NullDevice, NullLaunch
from groundup.errors import ConfigError, ShapeError
from groundup.graph import mode
from groundup.layout import Layout, Spec
from groundup.models.gpt import GPT, GPTConfig
from groundup.profiler.recording import Event
from groundup.profiler.table import render
from groundup.spans import current


class Timed(NullDevice):
    """A device with a timer of its own, which says that every launch takes two seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.info = attrs.evolve(self.describe(), features=frozenset({"timer"}))

    def timed(self, launches: Sequence[Launch]) -> list[float]:
        for launch in launches:
            launch()
            self.synchronize()
        return [2.0] * len(launches)


def on(device: Device, *shape: int) -> gu.Tensor:
    return gu.Tensor(device.empty(Layout.contiguous(Spec(shape, gu.float32))), device, None, 0)


@pytest.fixture
def model() -> nn.Module:
    gu.random.manual_seed(0)
    config = GPTConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=11)
    return GPT(config).to("cpu")


@pytest.fixture
def ids() -> gu.Tensor:
    return gu.from_numpy(np.arange(8, dtype=np.int32).reshape(1, 8), "cpu")


def train_step(model: nn.Module, optimizer: optim.Optimizer, ids: gu.Tensor) -> gu.Tensor:
    loss: gu.Tensor = model(ids, ids)
    loss.backward()
    optimizer.step(nn.clip_factor(nn.grad_norm(model.parameters()), 1.0))
    optimizer.zero_grad()
    return loss


def ops(p: gu.profile, name: str = "") -> list[Event]:
    return [e for e in p.events if e.kind == "op" and name in ("", e.name)]


# ---- what is recorded ----


def test_every_op_with_its_launches_flops_and_bytes() -> None:
    x = gu.ones(4, 8, device="cpu")
    with gu.profile() as p:
        x @ x.permute(1, 0)
        x @ x.permute(1, 0)
    rows = {row.name: row for row in p.summary().ops}
    assert (rows["matmul"].calls, rows["matmul"].launches) == (2, 2)
    assert rows["matmul"].flops == 2 * (2 * 4 * 8 * 4)
    assert rows["matmul"].bytes == 2 * 4 * (32 + 32 + 16)
    assert (rows["permute"].calls, rows["permute"].launches, rows["permute"].bytes) == (2, 0, 0)
    assert p.counts.launches == 2


def test_the_launches_of_events_are_all_launches(model: nn.Module, ids: gu.Tensor) -> None:
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    train_step(model, optimizer, ids)
    with gu.profile() as p:
        train_step(model, optimizer, ids)
    summary = p.summary()
    assert sum(row.launches for row in summary.ops) == p.counts.launches
    assert sum(lane.launches for lane in summary.lanes) == p.counts.launches


def test_own_times_add_up_to_the_whole(model: nn.Module, ids: gu.Tensor) -> None:
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    with gu.profile() as p:
        train_step(model, optimizer, ids)
    summary = p.summary()
    assert sum(row.seconds for row in summary.lanes) == pytest.approx(p.seconds)
    assert all(event.own_seconds >= 0 for event in p.events)
    assert 0 < summary.work <= 1


def test_events_nest(model: nn.Module, ids: gu.Tensor) -> None:
    with gu.profile() as p:
        model(ids, ids).backward()
    starts = [event.start for event in p.events]
    assert starts == sorted(starts)
    for first, second in itertools.pairwise(p.events):
        assert second.start >= first.end or second.end <= first.end


def test_what_a_device_composes_is_shown_with_its_parts() -> None:
    class Plain(NullDevice):
        def kernel(self, op, inputs, outputs):  # type: ignore[no-untyped-def]
            from groundup.backends.api import Declined

            if op.name == "silu":
                return Declined("no kernel")
            return super().kernel(op, inputs, outputs)

    device = Plain()
    device.info = device.describe()
    x = on(device, 16)
    with gu.profile() as p:
        x.silu()
    whole, *parts = ops(p)
    assert whole.name == "silu"
    assert whole.parts == len(parts) >= 2
    rows = {row.name: row for row in p.summary().ops}
    assert (rows["silu"].launches, rows["silu"].flops) == (0, 0), "its parts have them"
    assert sum(row.launches for row in rows.values()) == whole.launches == len(parts)


def test_lowering_and_allocation_are_events_when_they_happen() -> None:
    device = Timed()
    x = on(device, 37)
    with gu.profile(device_time=False) as p:
        a = x + x
        b = x + x
    kinds = [(event.kind, event.name) for event in p.events]
    assert kinds == [
        ("op", "add"), ("plan", "add"), ("allocate", "256 bytes"),
        ("op", "add"), ("allocate", "256 bytes"),
    ]  # fmt: skip
    assert a.shape == b.shape


def test_compilations_and_waits_are_events() -> None:
    device = Timed()
    x = on(device, 2)
    with gu.profile() as p:
        with device.compiling("kernel"):
            pass
        x.numpy()
    assert [(e.kind, e.name) for e in p.events] == [("compile", "kernel"), ("wait", "read")]
    assert p.counts.waits == 0, "this device was not opened by its name"


def test_memory_is_seen_over_time() -> None:
    device = device_for("null")
    with gu.profile() as p:
        x = gu.zeros(1000, device="null")
        y = x + x
        del x, y
        gu.zeros(1, device="null")
    filled, added, last = (e.memory for e in ops(p) if e.name in ("full", "add"))
    assert added - filled == 4096
    assert last == filled - 4096 + 256
    assert p.summary().peak_memory["null"] >= added >= device.pool.in_use


# ---- whose it is ----


def test_modules_by_their_paths(model: nn.Module, ids: gu.Tensor) -> None:
    with gu.profile() as p:
        model(ids, ids).backward()
    rows = {row.path: row for row in p.summary().modules()}
    assert {"GPT", "wte", "h.0", "h.0.ln_1", "h.1.mlp.c_fc", "ln_f"} <= rows.keys()
    assert (rows["h.1.ln_2"].calls, rows["h.1.ln_2"].kind) == (1, "LayerNorm")
    norms = ops(p, "layer_norm") + ops(p, "layer_norm_backward")
    assert sorted(e.module for e in norms if e.lane == "forward") == [
        "h.0.ln_1", "h.0.ln_2", "h.1.ln_1", "h.1.ln_2", "ln_f",
    ]  # fmt: skip
    backward = [e.module for e in norms if e.lane == "backward"]
    assert backward == ["ln_f", "h.1.ln_2", "h.1.ln_1", "h.0.ln_2", "h.0.ln_1"]


def test_layers_of_a_list_are_one_row_if_wanted(model: nn.Module, ids: gu.Tensor) -> None:
    with gu.profile() as p:
        model(ids)
    rows = {(row.path, row.kind): row.calls for row in p.summary().modules(each_layer=False)}
    assert rows["h.*.ln_1", "LayerNorm"] == 2
    assert rows["h.*", "Block"] == 2
    assert rows["ln_f", "LayerNorm"] == 1


def test_layers_of_several_kinds_stay_apart() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1)).to("cpu")
    with gu.profile() as p:
        model(gu.ones(1, 2, device="cpu"))
    rows = {(row.path, row.kind): row.calls for row in p.summary().modules(each_layer=False)}
    assert rows == {("Sequential", "Sequential"): 1, ("*", "Linear"): 2, ("*", "LayerNorm"): 1}


def test_a_second_model_has_its_own_names() -> None:
    first, second = (nn.Sequential(nn.Linear(2, 2)).to("cpu") for _ in range(2))
    x = gu.ones(1, 2, device="cpu")
    with gu.profile() as p:
        second(first(x))
    paths = [e.name for e in p.events if e.kind == "module"]
    assert paths == ["Sequential", "0", "Sequential", "Sequential.0"]


def test_lanes(model: nn.Module, ids: gu.Tensor) -> None:
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    with gu.profile() as p:
        train_step(model, optimizer, ids)
        with gu.span("eval"), gu.no_grad():
            model(ids)
        with gu.span("data"):
            gu.ones(2, device="cpu") + 1.0
        gu.ones(2, device="cpu") * 2.0
    lanes = {event.name: event.lane for event in ops(p)}
    assert lanes["cross_entropy"] == "forward"
    assert lanes["cross_entropy_backward"] == "backward"
    assert lanes["adamw"] == lanes["global_norm"] == "optimizer"
    assert lanes["add"] == "data"
    assert lanes["mul"] == "other"
    assert {e.lane for e in ops(p, "layer_norm")} == {"forward", "eval"}
    assert set(lanes.values()) == {row.name for row in p.summary().lanes} | {"eval", "forward"}


def test_recorded_ops_outside_of_modules_are_forward() -> None:
    x = gu.ones(2, device="cpu").requires_grad_()
    with gu.profile() as p:
        (x * 2.0).sum().backward()
    assert [(e.name, e.lane) for e in ops(p)][:2] == [("mul", "forward"), ("sum", "forward")]


def test_a_span_that_is_no_lane_is_shown_and_changes_none() -> None:
    with gu.profile() as p, gu.span("mine"):
        gu.ones(2, device="cpu") + 1.0
    first = p.events[0]
    assert (first.kind, first.name, first.lane) == ("span", "mine", "other")
    assert {e.lane for e in p.events} == {"other"}


def test_a_span_decorates() -> None:
    @gu.span("data")
    def load(n: int, *, scale: float) -> float:
        return n * scale

    assert load(2, scale=0.5) == 1.0
    with gu.profile() as p:
        assert load(4, scale=0.5) == 2.0
    assert [(e.name, e.lane) for e in p.events] == [("data", "data")]


def test_recomputation_of_a_checkpoint_is_backward() -> None:
    layer = nn.Linear(2, 2).to("cpu")
    x = gu.ones(1, 2, device="cpu").requires_grad_()
    with gu.profile() as p:
        gu.checkpoint(layer, x).sum().backward()
    assert [e.lane for e in ops(p, "linear")] == ["forward", "backward"]


# ---- together with others ----


@pytest.mark.parametrize("profile_first", [True, False])
def test_under_autocast_the_ops_are_those_that_run(profile_first: bool) -> None:
    x = gu.ones(2, 2, device="cpu")
    recorded, cast = gu.profile(), gu.autocast("bfloat16")
    outer, inner = (recorded, cast) if profile_first else (cast, recorded)
    with outer, inner:
        y = x @ x
    assert y.dtype is gu.bfloat16
    (product,) = ops(recorded, "matmul")
    assert [spec.dtype for spec in product.inputs] == [gu.bfloat16] * 2
    assert len(ops(recorded, "cast")) == 2


def test_between_two_autocasts_the_inner_one_still_decides() -> None:
    x = gu.ones(2, 2, device="cpu")
    with gu.autocast("bfloat16"), gu.profile() as p, gu.autocast("float32"):
        y = x @ x
    assert y.dtype is gu.float32
    assert [e.name for e in ops(p)] == ["matmul"]


def test_with_anomaly_detection() -> None:
    x = gu.ones(2, device="cpu")
    with gu.profile() as p, gu.detect_anomaly():
        x + 1.0
    assert [e.name for e in ops(p)] == ["add"]
    assert [e.name for e in p.events if e.kind == "wait"] == ["read"]


def test_a_compiled_function_stays_compiled_and_shows_its_launches() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)).to("cpu")
    x = gu.ones(2, 4, device="cpu")
    compiled = gu.compile(lambda x: model(x) + 1.0)
    expected = compiled(x).detach().numpy()
    with gu.profile() as p:
        result = compiled(x)
    assert not compiled.retraces
    np.testing.assert_array_equal(result.detach().numpy(), expected)
    found = {e.name: (e.lane, e.module) for e in ops(p)}
    assert found["linear"] == ("forward", "0")
    assert found["layer_norm"] == ("forward", "1")
    assert found["add"] == ("forward", ""), "recorded, outside of all modules"
    assert not any(e.kind == "trace" for e in p.events)


def test_a_compiled_step_has_the_lanes_and_modules_of_an_eager_one(
    model: nn.Module, ids: gu.Tensor
) -> None:
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    train_step(model, optimizer, ids)  # the optimizer's state begins to exist
    compiled = gu.compile(lambda ids: train_step(model, optimizer, ids))
    compiled(ids)
    found = []
    for step in (lambda: train_step(model, optimizer, ids), lambda: compiled(ids)):
        with gu.profile() as p:
            step()
        heavy = ("linear", "matmul", "layer_norm_backward", "cross_entropy", "adamw", "gelu")
        # A norm's gradient in a residual block has the addition in it, once it is compiled.
        events = [(e.name.removeprefix("add_"), e.lane, e.module) for e in ops(p)]
        found.append(sorted(each for each in events if each[0] in heavy))
    assert found[0] == found[1]
    assert {lane for _, lane, _ in found[0]} == {"forward", "backward", "optimizer"}


def test_a_compiled_step_is_accounted_for(model: nn.Module, ids: gu.Tensor) -> None:
    """Every launch has a lane; the rest of the time is that of the replay, or between steps."""
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    step = gu.compile(lambda ids: train_step(model, optimizer, ids))
    step(ids)
    with gu.profile() as p:
        step(ids)
    lanes = {row.name: row.launches for row in p.summary().lanes}
    inputs, results = 1, 1
    assert lanes.pop("compiled") == inputs + results
    assert lanes.pop("other") == 0
    assert set(lanes) == {"forward", "backward", "optimizer"}
    (entry,) = step.entries
    assert sum(lanes.values()) == len(entry.executable.launches)
    assert p.counts.launches == sum(lanes.values()) + inputs + results


def test_in_an_eval_span_a_compiled_function_is_eval() -> None:
    compiled = gu.compile(lambda x: x * 2.0)
    x = gu.ones(2, device="cpu")
    compiled(x)
    with gu.profile() as p, gu.span("eval"):
        compiled(x)
    assert {e.lane for e in ops(p)} == {"eval"}


def test_without_a_profile_a_replay_tells_nobody_of_its_launches() -> None:
    """Counted in calls of Python functions: as many for twelve launches as for two."""

    def calls(depth: int) -> int:
        def chain(x: gu.Tensor) -> gu.Tensor:
            for _ in range(depth):
                x = (x @ x) * 2.0
            return x

        compiled = gu.compile(chain)
        x = gu.ones(2, 2, device="null")
        compiled(x)
        count = 0

        def seen(frame: FrameType, event: str, _: object) -> None:
            nonlocal count
            count += event == "call" and frame.f_code is not NullLaunch.__call__.__code__

        sys.setprofile(seen)
        try:
            compiled(x)
        finally:
            sys.setprofile(None)
        return count

    assert calls(1) == calls(6) > 0


def test_tracing_is_one_event_and_no_op_of_it_counts() -> None:
    compiled = gu.compile(lambda x: (x * 3.0 + 1.0).sum())
    with gu.profile() as p:
        assert float(compiled(gu.ones(4, device="cpu"))) == 16.0
    (traced,) = (e for e in p.events if e.kind == "trace")
    assert not [e for e in p.events if traced.start < e.start < traced.end]
    assert ops(p, "sum")[0].lane == "compiled"


# ---- device time ----


def test_device_time_comes_from_the_device_s_own_timer() -> None:
    device = Timed()
    x = on(device, 4)
    with gu.profile() as p:
        x + x
        x.reshape(2, 2)
    assert [(e.name, e.device_seconds) for e in ops(p)] == [("add", 2.0), ("reshape", None)]
    assert device.waits == 0, "the timer's waits are not the program's"
    assert device.work.launches == 1
    row = p.summary().ops[0]
    assert row.rate(row.bytes) == row.bytes / 2.0
    assert "device ms" in p.table()
    assert device.timer is None


def test_device_time_can_be_left_out_or_taken_by_the_clock() -> None:
    x = on(Timed(), 4)
    with gu.profile(device_time=False) as without:
        x + x
    assert ops(without)[0].device_seconds is None
    y = gu.ones(4, device="cpu")
    with gu.profile() as usual:
        y + y
    assert ops(usual)[0].device_seconds is None, "the cpu has no timer beside the clock"
    with gu.profile(device_time=True) as asked:
        y + y
    seconds = ops(asked)[0].device_seconds
    assert seconds is not None
    assert 0 < seconds < asked.seconds


def test_a_compiled_function_s_launches_are_timed() -> None:
    compiled = gu.compile(lambda x: x * 3.0 + 1.0)
    x = gu.ones(4, device="cpu")
    compiled(x)
    with gu.profile(device_time=True) as p:
        compiled(x)
    assert all(e.device_seconds for e in ops(p) if e.launches)


# ---- beginning and end ----


def test_nothing_is_left_behind_even_by_an_error() -> None:
    x = gu.ones(2, device="cpu")
    with pytest.raises(ShapeError), gu.profile() as p:
        x.reshape(3)
    assert mode.interceptor is None
    assert current.recorder is None
    assert device_for("cpu").timer is None
    assert [e.name for e in ops(p)] == ["reshape"]
    assert all(e.end >= e.start for e in p.events)
    count = len(p.events)
    x + x
    assert len(p.events) == count


def test_two_at_once_are_refused_and_the_first_goes_on() -> None:
    with gu.profile() as p:
        with pytest.raises(ConfigError, match="already active"), gu.profile():
            pass
        gu.ones(2, device="cpu") + 1.0
    assert ops(p, "add")


def test_one_can_be_used_again_and_starts_from_nothing() -> None:
    p = gu.profile()
    for _ in range(2):
        with p:
            gu.ones(2, device="cpu") + 1.0
    assert len(ops(p, "add")) == 1


def test_the_table_names_what_it_shows(model: nn.Module, ids: gu.Tensor) -> None:
    with gu.profile() as p:
        model(ids, ids).backward()
    text = render(p.summary(), limit=3)
    largest = p.summary().ops[0].name
    for part in (largest[:20], "h.*", "more", "backward", "launches", "of it in ops", "peak"):
        assert part in text
    assert "host ms is wall time; no device time" in text
    assert max(map(len, text.splitlines())) <= 160


def test_an_empty_profile_has_a_table() -> None:
    with gu.profile() as p:
        pass
    assert "0 launches" in p.table()

"""Programs meet devices: compositions, copies and scratch that a device asks for; replaying."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup.backends.api import Declined, Kernel, Launch, View
from groundup.backends.devices import device_for
from groundup.backends.null import NullDevice, NullKernel
from groundup.errors import UnsupportedOp
from groundup.layout import Layout
from groundup.ops.op import Op
from groundup.program.executable import Executable
from groundup.program.lowering import lower_program
from groundup.program.passes import EXACT
from groundup.program.plan import make_plan
from groundup.program.program import Program
from groundup.tensor import Tensor


class Picky(NullDevice):
    """Declines some ops, wants row-major inputs, needs scratch, and remembers what was bound."""

    def __init__(self, *declined: str) -> None:
        super().__init__()
        self.info = self.describe()
        self.declined = declined
        self.bound: list[tuple[str, Sequence[View], View | None]] = []

    def kernel(
        self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> Kernel | Declined:  # type: ignore[override]
        if op.name in self.declined:
            return Declined("not today")
        made = PickyKernel(op, inputs, self.work)
        made.device, made.name = self, op.name
        made.contiguous = () if op.name in ("contiguous", "assign") or not inputs else (0,)
        return made


class PickyKernel(NullKernel):
    workspace = 1000
    device: Picky
    name: str

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        self.device.bound.append((self.name, inputs, workspace))
        return super().bind(inputs, outputs, workspace)


def traced(function: Any, *args: Any) -> Program:
    run = gu.compile(function, passes=EXACT)
    run(*args)
    return run.programs[0]


def names(program: Program) -> list[str]:
    return [node.op.name for node in program.nodes if not node.is_view]


def test_what_a_device_declines_is_composed() -> None:
    program = traced(lambda x: x.sigmoid() * gu.ops.softmax(x, axis=-1), gu.ones(3, 4))
    assert names(program) == ["sigmoid", "softmax", "mul"]
    lowered = lower_program(program, Picky("softmax"))
    assert "softmax" not in names(lowered.program)
    assert {"exp", "sum", "sigmoid"} <= set(names(lowered.program))
    assert lowered.program.outputs[0].spec is program.outputs[0].spec
    with pytest.raises(UnsupportedOp, match=r"exp.* cannot run on null: not today"):
        lower_program(program, Picky("softmax", "exp"))


def test_a_body_that_a_device_declines_runs_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where compositions are forbidden, since each step has a kernel."""
    run = gu.compile(lambda x: ((x * -0.0 + 1.0).tanh() > 0.5).where(x, 2.0))
    run(gu.ones(3, 4))
    (program,) = run.programs
    assert names(program) == ["fused"]
    monkeypatch.setenv("GROUNDUP_STRICT", "1")
    lowered = lower_program(program, Picky("fused"))
    assert names(lowered.program) == ["mul", "add", "tanh", "greater", "where"]
    zeros = [n.op.value for n in lowered.program.setup if n.op.name == "full"]
    assert str(zeros) == "[-0.0, 1.0, 0.5, 2.0]"


def test_a_composition_that_ends_in_a_view_is_made_row_major() -> None:
    program = traced(lambda x: x.repeat(2, 0).mT.clone(), gu.ones(2, 3))
    lowered = lower_program(program, Picky("repeat"))
    assert all(v.layout.is_row_major for n in lowered.program.nodes if not n.is_view
               for v in n.outputs)  # fmt: skip


def test_copies_that_a_kernel_wants_are_nodes_and_shared() -> None:
    program = traced(lambda x: (x.mT.exp(), x.mT.log()), gu.ones(2, 3))
    lowered = lower_program(program, Picky())
    assert names(lowered.program) == ["contiguous", "exp", "log"]
    kernels = [lowered.kernels[n] for n in lowered.program.nodes if not n.is_view]
    assert len(kernels) == 3


def test_scratch_is_planned_and_handed_over() -> None:
    device = Picky()
    lowered = lower_program(traced(lambda x: (x + x).exp(), gu.ones(100)), device)
    plan = make_plan(lowered)
    assert [place.nbytes for place in plan.workspaces.values()] == [1024, 1024]
    assert plan.peak == 448 + 448 + 1024  # 400 bytes each, aligned, beside one kernel's scratch
    Executable(lowered, {})
    for _, inputs, workspace in device.bound:
        assert workspace is not None
        assert workspace.layout.size * 4 >= 1000
        arena = inputs[0].root
        assert workspace.root is arena


def test_launches_are_counted_and_may_be_timed() -> None:
    device = device_for("cpu")
    run = gu.compile(lambda x: (x + 1).exp(), passes=EXACT)
    x = gu.ones(2)
    run(x)
    entry = run.entries[0]
    before = device.launches
    run(x)
    assert device.launches - before >= len(entry.executable.launches) == 2
    timed: list[Any] = []

    def timer(launch: Launch) -> None:
        timed.append(launch.describe()["kernel"])
        launch()

    device.timer = timer
    try:
        result = run(x)
    finally:
        device.timer = None
    assert "add" in timed
    assert "exp" in timed
    np.testing.assert_array_equal(result.numpy(), np.exp(np.float32([2, 2])))


def test_a_recorded_loop_takes_launches_of_any_make() -> None:
    device = device_for("cpu")
    seen = []

    class Foreign:
        def __call__(self) -> None:
            seen.append(np.log(np.float32(-1.0)) if False else len(seen))

        def describe(self) -> dict[str, object]:
            return {"kernel": "foreign"}

    run = gu.compile(lambda x: x.log())
    run(-gu.ones(2))  # no warning: infinities and NaN are results
    (launch,) = run.entries[0].executable.launches
    replay = device.record([launch, Foreign(), launch, Foreign()])
    replay()
    replay()
    assert seen == [0, 1, 2, 3]
    device.record([])()


def test_a_device_may_take_the_whole_program(monkeypatch: pytest.MonkeyPatch) -> None:
    device = device_for("cpu")

    def take(executable: Any) -> Any:
        (x,), (y,) = executable.program.inputs, executable.program.outputs
        source, target = executable.view(x), executable.view(y)
        return lambda: np.copyto(target.native, source.native * 10)

    monkeypatch.setattr(type(device), "compile", lambda self, program: take(program))
    assert gu.compile(lambda x: x + x)(gu.ones(2)).tolist() == [10, 10]


def test_a_program_of_one_device_runs_on_another(tmp_path: Any) -> None:
    run = gu.compile(lambda x: gu.ops.softmax(x * 2.0, axis=-1))
    run(gu.ones(2, 3))
    run.save(tmp_path / "f.safetensors")
    from groundup.program.saved import load

    loaded = load(tmp_path / "f.safetensors", "null")
    out: Tensor = loaded(gu.ones(2, 3, device="null"))
    assert out.device.info.name == "null"
    assert out.shape == (2, 3)

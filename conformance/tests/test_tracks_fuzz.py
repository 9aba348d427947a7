"""The track `fuzz`: programs as data, and planted bugs that it finds and makes small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch
from groundup.backends.api import Device
from groundup.errors import ConfigError
from groundup.graph import Intercept
from groundup.ops.op import Op
from groundup.program import entry
from groundup.program.executable import Executable
from groundup.program.passes import PASSES
from groundup.program.passes.rewriting import rewrite
from groundup.tensor import Tensor
from groundup_conformance.budgets import IEEE, WGSL
from groundup_conformance.fuzz import judging, programs, running
from groundup_conformance.fuzz.programs import Program
from groundup_conformance.fuzz.search import Find, Tried, keep, search
from groundup_conformance.running import Failed

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
CHAIN = (
    '{"inputs": [[[5, 3], "float32", 1]], "steps": [["permute", {"axes": [1, 0]}, [0]], '
    '["sum", {"axes": [0]}, [1]], ["mul", {}, [2, 2]], ["cast", {"dtype": "dtype:float16"}, [3]]]}'
)


class Wrong(Intercept):
    """Results of one op are changed in their memory."""

    def __init__(self, name: str, change: Any) -> None:
        super().__init__(self._handled)
        self._name, self._change = name, change

    def _handled(self, op: Op, inputs: tuple[Tensor, ...], device: Device | None) -> Any:
        result = dispatch.apply(op, inputs, device)
        if op.name == self._name:
            self._change(op, [x._view for x in inputs], result._view.native)
        return result


def test_a_program_is_a_line_and_back() -> None:
    program = Program.from_json(CHAIN)
    assert program.to_json() == CHAIN
    specs, spans = program.specs()
    assert {spec.dtype.name for spec in specs} == {"float32", "float16"}
    assert [len(span) for span in spans] == [1, 1, 1, 1]


def test_steps_and_inputs_can_be_taken_out() -> None:
    program = Program.from_json(
        '{"inputs": [[[2], "float32", 1], [[2], "float32", 2], [[3], "float32", 3]], '
        '"steps": [["exp", {}, [1]], ["flip", {}, [3]], ["add", {}, [4, 3]]]}'
    )
    less = program.without_step(1)
    assert less is not None
    assert [s.operands for s in less.steps] == [(1,), (3, 3)]
    fewer = program.without_input(2)
    assert fewer is not None
    assert [s.operands for s in fewer.steps] == [(1,), (2,), (3, 2)]
    first = program.without_input(0)
    assert first is not None
    assert [s.operands for s in first.steps] == [(0,), (2,), (3, 2)]
    one = Program.from_json('{"inputs": [[[2], "float32", 1]], "steps": [["exp", {}, [0]]]}')
    assert one.without_step(0) is None, "nothing would be left"


@pytest.mark.parametrize("line", ["", "{}", '{"inputs": [], "steps": [["nonsense", {}, []]]}'])
def test_what_is_no_program_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="no program"):
        Program.from_json(line)


def test_a_right_device_passes_with_figures() -> None:
    figures = judging.check(Program.from_json(CHAIN), gu.device_for("cpu"), IEEE)
    assert figures.ratio is not None
    assert 0 < figures.ratio <= 1


def test_the_corpus_holds_programs() -> None:
    lines = programs.corpus()
    assert len(lines) >= 4
    for line in lines:
        program = Program.from_json(line)
        assert program.fits()


def test_values_of_inputs_stay_what_they_are() -> None:
    """Or the corpus would no longer show what it was kept for."""
    [first] = Program.from_json('{"inputs": [[[3], "float32", 7]], "steps": []}').inputs
    np.testing.assert_allclose(first.array, [0.00246030674, 0.597491, -0.5482757], rtol=1e-6)


def test_a_wrong_result_is_named() -> None:
    def off_by_little(op: Op, views: Any, y: Any) -> None:
        y *= np.float32(1.001)

    with Wrong("sum", off_by_little), pytest.raises(Failed, match=r"step 1, sum\(axes=\(0,\)"):
        judging.check(Program.from_json(CHAIN), gu.device_for("cpu"), IEEE)


def test_a_wrong_gradient_is_named() -> None:
    """d(x * x) = 2 x dx: without one of the two uses it is half of that."""

    def half(op: Op, views: Any, y: Any) -> None:
        y[...] = views[0].native

    program = '{"inputs": [[[4], "float32", 1]], "steps": [["mul", {}, [0, 0]]]}'
    with Wrong("add", half), pytest.raises(Failed, match="the gradient of value 0"):
        judging.check(Program.from_json(program), gu.device_for("cpu"), IEEE)


def test_what_wgsl_leaves_open_is_not_judged() -> None:
    assert judging.decided(IEEE, np.array([np.nan]))
    assert not judging.decided(WGSL, np.array([1.0, np.inf]))
    assert judging.decided(WGSL, np.array([1, 2]), np.array([1.0]))


def test_a_search_is_the_same_each_time() -> None:
    runs = []
    for _ in range(2):
        tried = Tried()
        assert search(gu.device_for("cpu"), IEEE, examples=40, seed=5, tried=tried) is None
        runs.append(tried)
    assert runs[0] == runs[1]
    assert runs[0].count >= 40


def test_a_planted_bug_is_found_and_made_small() -> None:
    """`cast` that ignores strides: what it reads of a view is the start of the memory."""

    def ignores_strides(op: Op, views: Any, y: Any) -> None:
        view = views[0]
        if not view.layout.is_row_major and y.size:
            base = (view.root or view).native
            y[...] = np.resize(base.reshape(-1), y.shape).astype(y.dtype)

    with Wrong("cast", ignores_strides):
        found = search(gu.device_for("cpu"), IEEE, examples=400, seed=0)
    assert found is not None
    assert "cast" in found.problem
    assert [step.op.name for step in found.program.steps][-1] == "cast"
    assert len(found.program.steps) == 2


def test_three_hundred_programs_are_right_eagerly_and_compiled() -> None:
    tried = Tried()
    found = search(gu.device_for("cpu"), IEEE, examples=300, seed=0, tried=tried)
    assert found is None, f"{found.problem}\n{found.program.to_json()}"
    assert tried.count >= 300


# ---- writes, and what is compiled ----

WRITES = (
    '{"inputs": [[[2, 3], "float32", 1], [[3, 1], "float32", 2]], "steps": [["permute", '
    '{"axes": [1, 0]}, [0]], ["flip", {"axes": [0]}, [2]], ["mul", {}, [3, 3]], ["assign", {}, '
    '[3, 1]], ["add", {}, [2, 4]], ["assign", {}, [0, 0]]]}'
)


def test_a_write_makes_no_value_and_is_seen_by_all_views() -> None:
    program = Program.from_json(WRITES)
    assert program.to_json() == WRITES
    _, spans = program.specs()
    assert [len(span) for span in spans] == [1, 1, 1, 0, 1, 0]
    assert program.written() == {0}
    outcome = running.run(program, gu.device_for("cpu"))
    written = outcome.did[3]
    assert len(written.windows) == 3, "the input and both views of it"
    base, turned, flipped = (outcome.arrays[w.after] for w in written.windows)
    np.testing.assert_array_equal(base.T, turned)
    np.testing.assert_array_equal(turned[::-1], flipped)
    np.testing.assert_array_equal(flipped, np.broadcast_to(program.inputs[1].array, (3, 2)))
    judging.check(program, gu.device_for("cpu"), IEEE)


@pytest.mark.parametrize(
    "line",
    [
        '{"inputs": [[[2], "float32", 1]], "steps": [["exp", {}, [0]], ["assign", {}, [1, 0]]]}',
        '{"inputs": [[[1], "float32", 1], [[2], "float32", 1]], "steps": [["assign", {}, [0, 1]]]}',
        '{"inputs": [[[2], "float32", 1], [[2], "int32", 1]], "steps": [["assign", {}, [0, 1]]]}',
    ],
)
def test_writes_that_cannot_be_do_not_fit(line: str) -> None:
    assert not Program.from_json(line).fits()


def test_a_write_that_reaches_too_far_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the memory instead of a view's part of it."""
    real = gu.Tensor.assign_

    def everything(self: Tensor, value: Any) -> Tensor:
        root = self._view.root
        if root is not None and self._view.layout.size < root.layout.size:
            root.native[...] = 0
        return real(self, value)

    monkeypatch.setattr(gu.Tensor, "assign_", everything)
    program = (
        '{"inputs": [[[4], "float32", 1], [[2], "float32", 2]], "steps": [["slice", '
        '{"start": [1], "stop": [3], "step": [1]}, [0]], ["assign", {}, [2, 1]]]}'
    )
    with pytest.raises(Failed, match=r"step 1, assign of values \[2, 1\]: a view shows"):
        judging.check(Program.from_json(program), gu.device_for("cpu"), IEEE)


def test_what_only_a_compiled_program_gets_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that lie in memory which the program overwrites at its end, not put aside."""
    monkeypatch.setattr(Executable, "_result", lambda self, value: self.view(value))
    found = search(gu.device_for("cpu"), IEEE, examples=300, seed=0)
    assert found is not None
    assert found.problem.startswith("compiled")
    assert "assign" in [step.op.name for step in found.program.steps]


def test_a_pass_that_drops_too_much_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """x * x taken for x, by a rule that looks at the op alone."""

    def square_is_x(program: Any) -> Any:
        def rule(node: Any, producers: Any) -> Any:
            same = node.op.name == "mul" and node.inputs[0] is node.inputs[1]
            return (node.inputs[0],) if same else None

        return rewrite(program, rule)

    real = entry.build
    monkeypatch.setattr(
        entry, "build", lambda p, tracer, passes=PASSES: real(p, tracer, [*passes, square_is_x])
    )
    program = '{"inputs": [[[4], "float32", 1]], "steps": [["mul", {}, [0, 0]]]}'
    with pytest.raises(Failed, match=r"compiled: step 0, mul of values"):
        judging.check(Program.from_json(program), gu.device_for("cpu"), IEEE)


def test_finds_are_appended(tmp_path: Path) -> None:
    file = tmp_path / "finds.jsonl"
    find = Find(Program.from_json(CHAIN), "it is wrong")
    keep(find, file)
    keep(find, file)
    assert file.read_text() == f"{CHAIN}\n{CHAIN}\n"

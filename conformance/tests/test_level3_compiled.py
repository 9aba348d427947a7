"""Level 3, compiled: every case has its twin, the cpu passes, and wrong replays are found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

import groundup as gu
from groundup.program.executable import Executable
from groundup_conformance.budgets import IEEE
from groundup_conformance.cases import Check
from groundup_conformance.ids import CaseId
from groundup_conformance.running import Failed
from groundup_conformance.training import checks, resuming, runs
from groundup_conformance.training.models import NETWORKS
from groundup_conformance.training.runs import FULL, RECIPES, RUNNERS

DEVICE = gu.device_for("cpu")
SHORT = attrs.evolve(FULL, steps=12)
CACHED = {"chunks"}  # the model counts what its cache holds in Python


def all_checks() -> Iterator[Check]:
    for generator in (checks.training, checks.resumption, checks.inference):
        yield from generator({}, DEVICE.info)


def named(name: str) -> Check:
    (found,) = (check for check in all_checks() if str(check.id) == name)
    return found


def test_every_case_that_can_be_compiled_is() -> None:
    ids = {check.id for check in all_checks()}
    for case in ids:
        twin = CaseId(case.op, case.dtype, case.case, "compiled", case.variant)
        assert twin in ids or case.variant in CACHED


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_on_the_cpu_compiled_runs_are_the_eager_ones(network: str, recipe: str) -> None:
    traces = [
        runs.train(NETWORKS[network], RECIPES[recipe], DEVICE, runner, SHORT)
        for runner in (RUNNERS["eager"], RUNNERS["compiled"])
    ]
    eager, compiled = ([t.losses, *t.gradients.values(), *t.final.values()] for t in traces)
    for wanted, got in zip(eager, compiled, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("question", ["losses", "gradients", "update"])
def test_the_cpu_passes(question: str) -> None:
    figures = checks.trained(named(f"train[float32,mlp-adamw,compiled,{question}]"), DEVICE, IEEE)
    assert figures.ratio is not None
    assert 0 < figures.ratio < 1


@pytest.mark.parametrize("network", ["mlp", "gpt"])
def test_resumed_runs_of_the_cpu_pass(network: str, tmp_path: Path) -> None:
    checks.resumed(named(f"train[float32,{network}-adamw,compiled,resume]"), DEVICE, tmp_path)


@pytest.mark.parametrize("question", ["greedy", "logits", "chunks"])
def test_the_cpu_decodes(question: str) -> None:
    checks.decoded(named(f"generate[float32,gpt,compiled,{question}]"), DEVICE, IEEE)


# ---- wrong replays ----


def judged(network: str, recipe: str) -> None:
    """A short compiled run by the losses' limits. Raises Failed."""
    got = runs.train(NETWORKS[network], RECIPES[recipe], DEVICE, RUNNERS["compiled"], SHORT)
    want = runs.wanted(network, recipe)
    checks._judged(checks.judging.judge_losses(got, want, SHORT, IEEE), "step")


def test_a_right_replay_is_accepted() -> None:
    judged("mlp", "momentum")


def test_inputs_that_are_not_copied_in_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step then computes with the first batch."""
    real = Executable.run

    def run(self: Executable, inputs: Any) -> Any:
        if not hasattr(self, "first"):
            self.first = list(inputs)  # type: ignore[attr-defined]
        return real(self, self.first)  # type: ignore[attr-defined]

    monkeypatch.setattr(Executable, "run", run)
    with pytest.raises(Failed, match="step 1"):
        judged("mlp", "momentum")


def test_state_that_is_not_written_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters then stay what they were."""
    real = Executable.run

    def run(self: Executable, inputs: Any) -> Any:
        kept = [(view, DEVICE.read(view)) for view in self._written]
        results = real(self, inputs)
        for view, array in kept:
            DEVICE.write(view, array)
        return results

    monkeypatch.setattr(Executable, "run", run)
    with pytest.raises(Failed, match=r"step [1-9]"):
        judged("mlp", "momentum")


def test_a_random_state_that_is_replayed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same dropout mask in every step: what is resumed from a file differs."""
    real = resuming.Run.begin

    def begin(*arguments: Any) -> resuming.Run:
        run = real(*arguments)
        inner = run.step
        state = gu.random.get_state(DEVICE)

        def step(*batch: Any) -> Any:
            gu.random.set_state(state, DEVICE)
            return inner(*batch)

        run.step = step
        return run

    monkeypatch.setattr(resuming.Run, "begin", begin)
    with pytest.raises(Failed, match="after resuming"):
        checks.resumed(named("train[float32,mlp-adamw,compiled,resume]"), DEVICE, tmp_path)

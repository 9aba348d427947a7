"""The cases without pytest are those that pytest collects, under the same names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from groundup import dispatch
from groundup.ops.third_party import all_ops
from groundup_conformance.budgets import IEEE
from groundup_conformance.running import Oracle
from groundup_conformance.selftest.questions import Question, questions
from groundup_conformance.selftest.trial import open_device

CHOSEN = ("relu", "memory", "l2_random", "r_faults", "r_leaks")


def test_the_same_cases_as_pytest(tmp_path: Path) -> None:
    options = ["--level", "2", "--track", "robust", "--track", "leaks", "--ops", ",".join(CHOSEN)]
    done = subprocess.run(
        [
            sys.executable, "-m", "groundup", "conformance", "cpu", *options,
            "--", "--collect-only",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    wanted = [line for line in done.stdout.splitlines() if "::" in line]
    ops = {"relu": all_ops()["relu"]}
    found = questions(ops, open_device(), level=2, tracks=("robust", "leaks"))
    names = [str(q.id) for q in found if q.id.op in CHOSEN]
    assert len(names) == len(set(names)) == len(wanted) > 200, done.stderr
    labels = {line.partition("::")[2].partition("[")[2] for line in wanted} - {""}
    for question in found:
        if question.id.op in CHOSEN and question.check is not None:
            assert f"{question.id}]" in labels
        elif question.id.op in CHOSEN and question.id.variant != "-":
            assert f"{question.id.variant}]" in labels


def ask(name: str, tracks: tuple[str, ...] = ()) -> Question:
    op = name.partition("[")[0]
    ops = {op: all_ops()[op]} if op in all_ops() else {}
    found = questions(ops, open_device(), level=2, tracks=tracks)
    return next(q for q in found if str(q.id) == name)


@pytest.mark.parametrize(
    "name",
    [
        "relu[float32,matrix,given,forward]",
        "l2_random[-,numbers,-,1023-normal]",
        "l2_memory[-,assignment_within_one_tensor,-,-1]",
        "l0_errors[-,the_next_call_works,-,-]",
        "r_faults[-,full_device,-,-]",
    ],
)
def test_a_clean_device_passes(name: str) -> None:
    assert ask(name, ("robust",)).ask(open_device(), Oracle(IEEE)) is None


def test_the_reason_of_a_failure() -> None:
    device = open_device()

    def read(view: object) -> object:
        raise RuntimeError("no\nluck")

    device.read = read  # type: ignore[assignment, method-assign]
    reason = ask("relu[float32,matrix,given,forward]").ask(device, Oracle(IEEE))
    assert reason == "RuntimeError: no luck"


def test_what_a_case_cannot_show_is_no_failure() -> None:
    """The suite's own words for it are those of pytest: skip."""
    question = ask("r_faults[-,lost_device,-,-]", ("robust",))
    assert question.ask(open_device(), Oracle(IEEE)) is None


def test_questions_of_level_3(tmp_path: Path) -> None:
    """They need a folder, which is gone afterwards."""
    found = questions({}, open_device(), level=3)
    resume = [q for q in found if q.id.variant == "resume"]
    assert resume
    assert resume[0].ask(open_device(), Oracle(IEEE)) is None
    assert dispatch.make is not None

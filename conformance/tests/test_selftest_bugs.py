"""`groundup conformance selftest`: what is planted is found, and what is not found is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from groundup.backends.api import Device
from groundup.cli.app import run
from groundup.errors import ConfigError
from groundup.ops.op import REGISTRY
from groundup_conformance.ids import matches
from groundup_conformance.selftest import planting, trial
from groundup_conformance.selftest.planting import BUGS, Bug, Call

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


@pytest.fixture
def harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug that is none: the true kernel, by another way."""

    def no_bug_at_all(call: Call) -> None:
        """Nothing is wrong."""
        call.fill(*call.right())

    trial.chosen_bugs(None)
    kept = dict(BUGS)
    planting.kernel("tril", "tril[float32,square,*]", level=0)(no_bug_at_all)
    added = BUGS.pop("no-bug-at-all")
    assert kept == BUGS
    monkeypatch.setitem(BUGS, "no-bug-at-all", added)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("softmax-without-shift", "softmax[float32,large,given,forward]"),
        ("second-factor-forgotten", "mul[float32,matrix,given,gradient]"),
        ("assign-writes-a-copy", "assign[float16,matrix,given,in-place]"),
        ("host-array-not-copied", "memory[bool,bytes1,given,round-trip]"),
        ("update-done-by-half", "adamw[float32,decay-3x5+5+scalar,given,no-memory-update]"),
    ],
)
def test_a_bug_is_found_by_the_case_that_is_there_for_it(name: str, case: str) -> None:
    vjp = REGISTRY["mul"].vjp
    [bug] = trial.chosen_bugs(name)
    report = trial.run([bug], lambda outcome: None)
    [outcome] = report.outcomes
    assert (outcome.killed_by, outcome.aimed) == (case, True), outcome
    assert outcome.reason
    assert report.ok
    assert REGISTRY["mul"].vjp is vjp  # what was planted is gone


def test_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bugs.json"
    chosen = "relu-drops-nan,clamp-drops-nan"
    assert run(["conformance", "selftest", "--bug", chosen, "--json", str(path)]) == 0
    assert "2 of 2 bugs found" in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert (found["schema"], found["planted"], found["killed"]) == (1, 2, 2)
    assert found["clean"] == {"asked": 2, "failed": []}
    for bug in found["bugs"]:
        assert bug["killed_by"].startswith(bug["name"].partition("-")[0] + "[float32,special")
        assert bug["seconds"] > 0


@pytest.mark.usefixtures("harmless")
def test_a_survivor_fails_the_selftest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bugs.json"
    arguments = ["--bug", "no-bug-at-all,relu-drops-nan", "--json", str(path)]
    assert run(["conformance", "selftest", *arguments]) == 1
    out = capsys.readouterr().out
    assert "SURVIVES" in out
    assert "1 of 2 bugs found" in out
    found = json.loads(path.read_text())
    assert (found["planted"], found["killed"]) == (2, 1)
    assert {bug["name"]: bug["killed_by"] is None for bug in found["bugs"]} == {
        "no-bug-at-all": True, "relu-drops-nan": False,
    }  # fmt: skip


def test_a_backend_that_fails_by_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [bug] = trial.chosen_bugs("relu-drops-nan")
    opened = trial.open_device

    def broken() -> Device:
        device = opened()
        bug.plant(device)
        return device

    monkeypatch.setattr(trial, "open_device", broken)
    assert run(["conformance", "selftest", "--bug", "relu-drops-nan"]) == 1
    out = capsys.readouterr().out
    assert "fails without a bug: relu[float32,special,given,forward]" in out
    assert "0 of 1" in out  # a case that fails anyway kills nothing


def test_a_name_that_no_bug_has(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="no bug fits"):
        trial.chosen_bugs("nosuch")
    assert run(["conformance", "selftest", "--bug", "nosuch"]) == 2
    assert "no bug fits 'nosuch'" in capsys.readouterr().err


def test_there_are_enough_bugs_of_every_kind() -> None:
    bugs = trial.chosen_bugs(None)
    assert len(bugs) >= 40
    assert all(bug.what.endswith(".") for bug in bugs)
    assert {bug.level for bug in bugs} == {1, 2, 3}
    assert {track for bug in bugs for track in bug.tracks} == {"robust", "threads", "leaks"}


@pytest.mark.slow
def test_every_bug_is_found_and_the_page_says_by_what() -> None:
    page = PAGE.read_text(encoding="utf-8")

    def tell(outcome: trial.Outcome) -> None:
        assert outcome.killed_by, outcome.name
        assert outcome.aimed, outcome
        assert matches(outcome.killed_by, BUGS[outcome.name].aim)

    report = trial.run(trial.chosen_bugs(None), tell)
    assert report.ok
    for line in trial.table(report.outcomes).splitlines():
        assert line in page


def test_a_bug_is_planted_in_one_device_alone() -> None:
    [bug] = trial.chosen_bugs("axis-ignored")
    assert isinstance(bug, Bug)
    one, two = trial.open_device(), trial.open_device()
    with bug.plant(one):
        assert "softmax" in one.overrides
    assert not two.overrides

"""`groundup profile COMMAND`: its own flags before the command, the command's behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from groundup.cli import app
from groundup.cli.profile import mark_command

SMALL = [
    "--n-layer=1", "--n-head=2", "--n-embd=16", "--block-size=16", "--tokenizer=char",
    "--batch-size=4", "--max-iters=2", "--warmup-iters=1", "--eval-interval=2", "--eval-iters=1",
    "--log-interval=1", "--sample-tokens=2", "--device=cpu",
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("she sells sea shells by the sea shore. " * 40)
    return tmp_path


def test_it_runs_the_command_and_prints_where_time_went(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "tiny", "--data=text.txt", *SMALL, "--out", "run"]
    assert app.run(["profile", "--limit", "5", "--out=trace.json", *command]) == 0
    text = capsys.readouterr().out
    assert "step 2/2" in text, "what the command prints"
    for part in ("ops", "modules", "lanes", "launches", "trace: trace.json"):
        assert part in text
    assert (folder / "run" / "metrics.jsonl").exists()
    trace = json.loads((folder / "trace.json").read_text())
    lanes = {e["tid"] for e in trace["traceEvents"] if e["ph"] == "X"}
    assert len(lanes) >= 3, "data, eval, save and the steps at least"


def test_its_exit_code_is_the_command_s(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from groundup.train import loop

    monkeypatch.setattr(loop, "run", lambda config: 130)
    assert app.run(["profile", "train", "tiny"]) == 130
    assert "lanes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["profile"], "which command"),
        (["profile", "nonsense"], "nonsense"),
        (["profile", "profile", "ops"], "already active"),
        (["profile", "--limit", "-1", "ops"], "limit"),
        (["profile", "--out", ".", "ops"], "--out"),
        (["profile", "--out", "nowhere/trace.json", "ops"], "--out"),
        (["profile", "train", "nonsense"], "nonsense"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert part in error


@pytest.mark.parametrize(
    ("given", "marked"),
    [
        ("profile train tiny --out run", "profile -- train tiny --out run"),
        ("profile --out t.json train --out run", "profile --out t.json -- train --out run"),
        (
            "profile --out=t.json --no-device-time ops",
            "profile --out=t.json --no-device-time -- ops",
        ),
        ("profile -- train --x", "profile -- train --x"),
        ("profile --help", "profile --help"),
        ("train profile", "train profile"),
    ],
)
def test_where_the_command_begins(given: str, marked: str) -> None:
    assert mark_command(given.split()) == marked.split()

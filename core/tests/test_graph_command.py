"""`groundup graph`: figures, the question whether it fits, and refusals in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import groundup as gu
from groundup import nn
from groundup.cli import app

SMALL = [
    "--n-layer=1", "--n-head=2", "--n-embd=16", "--block-size=16", "--tokenizer=char",
    "--data=text.txt", "--batch-size=4",
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("she sells sea shells by the sea shore. " * 40)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).to("cpu")
    compiled = gu.compile(lambda x: model(x))
    compiled(gu.ones(2, 4, device="cpu"))
    compiled.save(tmp_path / "net.safetensors")
    return tmp_path


def test_a_preset_s_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["graph", "tiny", *SMALL, "--memory=1GB", "--out=graph.html"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny: a training step of 4 x 16 tokens, float32, on null"
    names = [line.split()[0] for line in lines]
    assert names[1:5] == ["parameters", "launches", "work", "arena"]
    assert lines[5].startswith("  in all")
    assert lines[6].startswith("fits into 1 GB; the largest --batch-size that does is ")
    assert lines[7] == "picture: graph.html"
    assert "h.0" in (folder / "graph.html").read_text()


def test_what_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["graph", "tiny", *SMALL, "--memory", "20kB"]) == 0
    out = capsys.readouterr().out
    assert "does not fit into 20 kB; not even a batch of one sequence does" in out


def test_micro_steps_are_programs_of_their_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["graph", "tiny", *SMALL, "--gradient-accumulation-steps=3", "--out=graph.svg"]
    assert app.run(command) == 0
    out = capsys.readouterr().out
    for part in ("first micro-step, 1 x", "other micro-steps, 2 x", "update, 1 x"):
        assert part in out
    assert (folder / "graph.svg").read_text().count('class="title"') == 3


def test_a_saved_program(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["graph", "net.safetensors", "--memory=1MB", "--out=net.svg"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("net.safetensors on null\n  launches    3, and")
    assert "fits into 1 MB\n" in out
    assert "relu" in (folder / "net.svg").read_text()


def test_another_device_s_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["graph", "tiny", *SMALL, "--device=cpu"]) == 0
    assert "on cpu\n" in capsys.readouterr().out


def test_settings_from_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "run.toml").write_text("batch_size = 7\nblock_size = 8\n")
    few = [flag for flag in SMALL if not flag.startswith(("--batch", "--block"))]
    assert app.run(["graph", "tiny", *few, "--config=run.toml"]) == 0
    assert "a training step of 7 x 8 tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nonsense"], "there is no preset 'nonsense'"),
        (["missing.safetensors"], "missing.safetensors"),
        (["text.txt"], "text.txt is damaged or not a safetensors file"),
        (["net.safetensors", "--batch-size=3"], "--batch-size is a preset's setting"),
        (["tiny", "--memory=lots"], "--memory: 'lots' is no size"),
        (["tiny", "--out=graph.png"], "a picture is .svg or .html"),
        (["tiny", "--out=nowhere/graph.svg"], "cannot be a file"),
        (["tiny", "--device=mars"], "no backend named 'mars'"),
        (["tiny", "--device=cpu", "--memory=1GB"], "--memory is a question to --device null"),
        (["tiny", "--dtype=float16", *SMALL], "with --dtype float16, steps run eagerly"),
        (["tiny", "--n-head=7"], "--n-head 7"),
        (["tiny", "--eval-iters=7"], "eval-iters"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["graph", *arguments]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert part in error

"""`groundup conformance ...` as users call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from groundup import dtypes
from groundup.cli.app import run
from groundup.dtypes import DType
from groundup.ops.third_party import all_ops
from groundup_conformance.samples import base


def groundup(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "groundup", *arguments],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scorecard, made by the command in a folder whose configuration must not matter."""
    folder = tmp_path_factory.mktemp("cards")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --nosuchoption\n")
    (folder / "conftest.py").write_text("raise RuntimeError\n")
    done = groundup(
        folder, "conformance", "cpu", "--ops", "tanh", "--level", "1", "--json", "card.json"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout
    return folder / "card.json"


def test_the_run(card: Path) -> None:
    found = json.loads(card.read_text())
    assert (found["backend"], found["profile"], found["level"]) == ("cpu", "ieee", 1)
    assert found["totals"]["passed"] == len(found["cases"]) > 50
    assert found["selection"] == {"ops": "tanh"}


def test_arguments_for_pytest(tmp_path: Path) -> None:
    done = groundup(
        tmp_path, "conformance", "cpu", "--case", "tanh[float32,odd,given,forward]",
        "--", "--collect-only",
    )  # fmt: skip
    assert "test_forward[tanh[float32,odd,given,forward]]" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nosuch"], "no backend named 'nosuch'"),
        (["cpu", "--device", "webgpu:0"], "no device of the backend cpu"),
        (["cpu", "--baseline", "none.json"], "cannot read none.json"),
        (["repro", "tanh"], "names no case"),
        (["repro", "tanh[float32,nosuch,given,forward]"], "there are tanh[float32,"),
        (["repro", "memory[float32,pool,given,reuse]"], "--case 'memory[float32,pool"),
        (["compare", "none.json", "none.json"], "cannot read"),
        (["explain", "softmix"], "did you mean softmax"),
    ],
)
def test_bad_requests_end_in_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["conformance", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert complaint in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("op", "dtype", "layout", "variant"),
    [
        ("matmul", dtypes.float32, "transposed", "forward"),
        ("layer_norm", dtypes.bfloat16, "given", "gradient"),
        ("topk", dtypes.float32, "reversed", "forward"),
        ("cast", dtypes.float16, "given", "forward"),
        ("scaled_dot_product_attention", dtypes.float32, "given", "gradient"),
        ("clamp", dtypes.int32, "shifted", "forward"),
        ("full", dtypes.float32, "given", "forward"),
    ],
)
def test_a_repro_runs_alone(
    op: str,
    dtype: DType,
    layout: str,
    variant: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sample = base(all_ops()[op], dtype)
    assert sample is not None
    case = f"{op}[{dtype},{sample.name},{layout},{variant}]"
    assert run(["conformance", "repro", case]) == 0
    script = tmp_path / "script.py"
    script.write_text(capsys.readouterr().out)
    assert "groundup_conformance" not in script.read_text()
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines
    assert all("ratio" in line and " 0 of " in line for line in lines), done.stdout


def test_compare(card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["conformance", "compare", str(card), str(card)]) == 0
    assert capsys.readouterr().out == "0 cases are worse\n"
    worse = json.loads(card.read_text())
    worse["cases"][0]["status"] = "failed"
    path = tmp_path / "worse.json"
    path.write_text(json.dumps(worse))
    assert run(["conformance", "compare", str(card), str(path)]) == 1
    out = capsys.readouterr().out
    assert "passed -> failed" in out
    assert "1 cases are worse" in out


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["conformance", "explain", "softmax", "--profile", "wgsl"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("softmax (normalization)")
    assert "profile wgsl" in out
    assert "gradient" in out


def test_coverage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["conformance", "coverage"]) == 0
    out = capsys.readouterr().out
    assert "softmax" in out
    assert "NONE" not in out


def test_badge_and_markdown(card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "badge.svg"
    assert run(["conformance", "badge", str(card), "--out", str(out)]) == 0
    assert out.read_text().startswith("<svg")
    assert run(["conformance", "markdown", str(card)]) == 0
    assert "### cpu: a part of the suite" in capsys.readouterr().out

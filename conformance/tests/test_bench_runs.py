"""Whole runs of the benchmarks, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ENVIRONMENT = {"NO_COLOR": "1", "GROUNDUP_PLUGINS": "cpu,conformance"}
PLANTED = """
import numpy as np
from groundup_cpu_ref import kernels
from groundup_cpu_ref.native import NATIVE, Native

kernels.load()
NATIVE["exp"] = Native(
    lambda op, x, out: np.multiply(np.exp(x), 1.001, out), NATIVE["exp"].params, False, False
)
"""
PEER = """
from groundup_conformance.bench.peers import arrays

arrays._SAME["exp"] = "expm1"
"""


def run(
    folder: Path, *arguments: str, module: str = "groundup"
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    # Not as part of the run that this test belongs to: pytest-benchmark is off in its workers.
    outer = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**outer, **ENVIRONMENT, "PYTHONPATH": path},
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """A run of one op, beside NumPy and a library that is not there: folder, text, JSON."""
    folder = tmp_path_factory.mktemp("bench")
    result = run(
        folder, "bench", "cpu", "--ops", "exp", "--peers", "numpy,cupy", "--json", "run.json",
        "--plot", "plots",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, result.stdout, json.loads((folder / "run.json").read_text())


def test_the_json_is_that_of_pytest_benchmark_with_our_figures(
    done: tuple[Path, str, dict[str, Any]],
) -> None:
    _, _, report = done
    groups = [row["group"] for row in report["benchmarks"]]
    assert groups == ["exp/float32/1024", "exp/float32/1048576"]
    for row in report["benchmarks"]:
        info = row["extra_info"]
        assert row["params"] == {"work": row["group"], "place": "cpu"}
        assert len(row["stats"]["data"]) == row["stats"]["rounds"] >= 5
        assert row["stats"]["median"] == pytest.approx(info["wall_seconds"])
        assert (info["op"], info["backend"]) == ("exp", "cpu")
        assert 0 < info["share"] <= 1.02
        ratio = info["ratio"]["numpy"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
        assert ratio["rounds"] == row["stats"]["rounds"]
    [large] = [row for row in report["benchmarks"] if row["group"].endswith("1048576")]
    assert large["extra_info"]["checked"] == "rows"


def test_the_json_says_what_rows_were_held_against(
    done: tuple[Path, str, dict[str, Any]],
) -> None:
    _, _, report = done
    ours = report["groundup"]
    assert ours["ceilings"]["cpu"]["flops"]["float32"] > 0
    assert ours["ceilings"]["cpu"]["launch"] > 0
    assert set(next(iter(ours["ceilings"]["cpu"]["bandwidth"].values()))) == {
        "copy", "triad", "read", "compare", "write",
    }  # fmt: skip
    assert ours["peers"]["cpu"][0].startswith("numpy ")
    assert list(ours["absent"]) == ["cupy beside cpu"]
    assert "node" not in report["machine_info"]


def test_the_table_and_the_drawings(done: tuple[Path, str, dict[str, Any]]) -> None:
    folder, text, _ = done
    assert "exp/float32/1048576" in text
    assert "of  ceiling" in text
    assert "no cupy beside cpu" in text
    names = {path.name for path in (folder / "plots").iterdir()}
    assert names == {"ratios.png", "ratios.svg", "roofline-cpu.png", "roofline-cpu.svg"}
    assert (folder / "plots" / "roofline-cpu.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "plots" / "ratios.svg").read_text()


def test_a_run_agrees_with_itself(done: tuple[Path, str, dict[str, Any]]) -> None:
    folder, _, _ = done
    text = run(folder, "bench", "compare", "run.json", "run.json").stdout
    assert text.startswith("/numpy all: median ratio")
    assert "2 of 2 within 10%" in text


def test_the_form_of_pytest_with_its_own_options(tmp_path: Path) -> None:
    result = run(
        tmp_path, "-q", "-p", "no:cacheprovider", "--pyargs", "groundup_conformance.bench",
        "--backend", "cpu", "--ops", "sqrt", "--benchmark-autosave", module="pytest",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "benchmark 'sqrt/float32/1024': 1 tests" in result.stdout
    [saved] = (tmp_path / ".benchmarks").glob("*/*.json")
    assert len(json.loads(saved.read_text())["benchmarks"]) == 3


@pytest.mark.parametrize(
    ("plugin", "text"),
    [(PLANTED, "before timing: ratio"), (PEER, "not the same work")],
    ids=["a wrong kernel", "a peer that does other work"],
)
def test_a_run_fails(tmp_path: Path, plugin: str, text: str) -> None:
    (tmp_path / "planted.py").write_text(plugin)
    result = run(
        tmp_path, "bench", "cpu", "--ops", "exp", "--peers", "numpy", "--json", "run.json",
        "--", "-pplanted",
    )  # fmt: skip
    assert result.returncode == 1
    assert text in result.stdout
    assert (
        not (tmp_path / "run.json").exists()
        or not json.loads((tmp_path / "run.json").read_text() or '{"benchmarks": []}')["benchmarks"]
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere"], "error: "),
        (["cpu", "--ops", "sofmax"], "error: no op fits --ops 'sofmax' (such as softmax,conv*)"),
        (["cpu", "--suite", "models", "--ops", "gpt"], "error: no task fits --ops 'gpt' (such as"),
        (["cpu", "--peers", "matlab"], "error: no peer named 'matlab' (there are torch"),
        (["cpu", "--dtype", "float7"], "error: no dtype named 'float7'"),
        (["compare", "a.json", "b.json"], "error: a.json is no run of groundup bench"),
    ],
)
def test_bad_requests_are_one_line(tmp_path: Path, arguments: list[str], text: str) -> None:
    result = run(tmp_path, "bench", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(text)
    assert result.stderr.count("\n") == 1

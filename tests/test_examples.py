"""Every example runs, with settings that make it quick."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*command: str | Path, path: Path | None = None, timeout: int = 120) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GROUNDUP_")}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(path), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


def losses(printed: str) -> list[float]:
    return [float(found) for found in re.findall(r"loss (\d+\.\d+)", printed)]


def test_tensors() -> None:
    printed = run(EXAMPLES / "01_tensors.py")
    assert "derivative 2 of sin at 0.7: -0.6442" in printed
    assert "f(0.933, 0.869) = 0.004552" in printed


def test_mlp() -> None:
    found = losses(run(EXAMPLES / "02_mlp.py", "--steps", "120"))
    assert found[-1] < 0.75 * found[0]


def test_gpt() -> None:
    printed = run(EXAMPLES / "03_gpt.py", "--steps", "12", "--batch-size", "4")
    found = losses(printed)
    assert found[-1] < found[0] - 0.5
    assert "\nThe " in printed


@pytest.mark.parametrize(
    ("name", "lines"), [("01_tensors.py", 60), ("02_mlp.py", 100), ("03_gpt.py", 300)]
)
def test_they_stay_short(name: str, lines: int) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) <= lines


def test_every_example_is_listed_and_tested() -> None:
    names = sorted(path.name for path in EXAMPLES.iterdir() if path.name != "README.md")
    assert names == ["01_tensors.py", "02_mlp.py", "03_gpt.py", "04_custom_op", "numba_backend"]
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name}" in listed for name in names)


def installed(example: str, folder: Path) -> Path:
    """An example's package as an installer would leave it: its modules and its entry point."""
    project = tomllib.loads((EXAMPLES / example / "pyproject.toml").read_text())["project"]
    module = project["name"].replace("-", "_")
    source = EXAMPLES / example / "src" / module
    shutil.copytree(source, folder / module, ignore=shutil.ignore_patterns("__pycache__"))
    record = folder / f"{module}-{project['version']}.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    entries = project["entry-points"]["groundup"].items()
    lines = ["[groundup]", *[f"{name} = {value}" for name, value in entries]]
    (record / "entry_points.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def softcap(tmp_path: Path) -> Path:
    return installed("04_custom_op", tmp_path)


def test_custom_op_in_the_matrix(softcap: Path) -> None:
    printed = run("-m", "groundup", "ops", "--matrix", path=softcap)
    (line,) = [line for line in printed.splitlines() if line.startswith("softcap::softcap")]
    assert line.split()[1:3] == ["elementwise", "native"]
    assert line.endswith("cpu by groundup-softcap")
    assert "softcap" not in run("-m", "groundup", "ops")


def test_the_custom_ops_own_tests(softcap: Path) -> None:
    tests = EXAMPLES / "04_custom_op" / "tests"
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", tests, "--import-mode=importlib"]
    assert "passed" in run("-m", "pytest", *options, tests, path=softcap)


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """The Numba backend's package. The environment need not have Numba; CI may install it."""
    pytest.importorskip(
        "numba", reason="the example's backend compiles with Numba: pip install numba"
    )
    return installed("numba_backend", tmp_path)


def test_the_numba_backend_in_the_matrix(compiled: Path) -> None:
    printed = run("-m", "groundup", "ops", "--matrix", path=compiled).splitlines()
    column = printed[0].split().index("numba")
    statuses = {line.split()[0]: line.split()[column] for line in printed[1:]}
    assert set(statuses.values()) == {"native", "composed"}
    fused = ("gelu", "softmax", "layer_norm", "cross_entropy", "adamw")
    assert {statuses[name] for name in fused} == {"native"}


@pytest.mark.slow
def test_the_numba_backends_own_tests(compiled: Path) -> None:
    """With a cold cache they compile every kernel in every dtype."""
    tests = EXAMPLES / "numba_backend" / "tests"
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", tests, "--import-mode=importlib"]
    assert "passed" in run("-m", "pytest", *options, tests, path=compiled, timeout=600)


@pytest.mark.slow
def test_the_numba_backends_measurements(compiled: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    printed = run(
        EXAMPLES / "numba_backend" / "measure.py", "--rounds", "2", "--json", figures,
        path=compiled, timeout=600,
    )  # fmt: skip
    names = json.loads(figures.read_text()).keys()
    table = (EXAMPLES / "numba_backend" / "README.md").read_text()
    assert all(f"| {name} |" in printed and f"| {name} |" in table for name in names)

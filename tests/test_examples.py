"""Every example runs, with settings that make it quick."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*command: str | Path, path: Path | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GROUNDUP_")}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(path), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=120,
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
    names = sorted(path.name for path in EXAMPLES.iterdir() if path.name[0].isdigit())
    assert names == ["01_tensors.py", "02_mlp.py", "03_gpt.py", "04_custom_op"]
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name}" in listed for name in names)


@pytest.fixture
def softcap(tmp_path: Path) -> Path:
    """The custom op's package as an installer would leave it: its modules and its entry point."""
    shutil.copytree(
        EXAMPLES / "04_custom_op" / "src" / "groundup_softcap", tmp_path / "groundup_softcap"
    )
    record = tmp_path / "groundup_softcap-0.1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: groundup-softcap\nVersion: 0.1.0\n"
    )
    (record / "entry_points.txt").write_text("[groundup]\nsoftcap = groundup_softcap.plugin\n")
    declared = (EXAMPLES / "04_custom_op" / "pyproject.toml").read_text()
    assert '[project.entry-points.groundup]\nsoftcap = "groundup_softcap.plugin"\n' in declared
    return tmp_path


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

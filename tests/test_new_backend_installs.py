"""A generated backend, as its author would use it: built, installed into a clean environment, run.

core/tests/test_new_backend.py has what needs no installation.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from groundup.ops import all_ops
from groundup.ops.op import has

ROOT = Path(__file__).parent.parent
UV = os.environ.get("UV") or shutil.which("uv")
GUIDE = ROOT / "docs" / "writing_a_backend.md"
NUMBA = ROOT / "examples" / "numba_backend" / "src" / "groundup_numba"

pytestmark = pytest.mark.skipif(
    UV is None and "CI" not in os.environ, reason="builds wheels with uv, not installed here"
)


def run(*command: str | Path, cwd: Path, timeout: int = 300) -> str:
    hidden = ("GROUNDUP_", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a clean environment: the core, its cpu backend, the conformance suite."""
    assert UV is not None
    folder = tmp_path_factory.mktemp("clean")
    for member in ("groundup", "groundup-cpu-ref", "groundup-conformance"):
        run(UV, "build", "--wheel", "--package", member, "--out-dir", folder / "dist", cwd=ROOT)
    run(UV, "venv", "--python", sys.executable, folder / "venv", cwd=folder)
    found = folder / "venv" / "bin"
    wheels = sorted((folder / "dist").glob("*.whl"))
    run(UV, "pip", "install", "--python", found / "python", *wheels, cwd=folder)
    return found


@pytest.fixture(scope="module")
def package(scripts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated package `shiny`, written by the installed command, and installed."""
    assert UV is not None
    folder = tmp_path_factory.mktemp("author")
    printed = run(scripts / "groundup", "new-backend", "shiny", cwd=folder)
    package = folder / "groundup-shiny"
    assert f"wrote {package.name}" in printed
    run(UV, "build", "--wheel", "--out-dir", folder / "dist", package, cwd=folder)
    [wheel] = (folder / "dist").glob("*.whl")
    run(UV, "pip", "install", "--python", scripts / "python", wheel, cwd=folder)
    return package


def test_its_wheel_holds_what_it_needs(package: Path) -> None:
    [wheel] = (package.parent / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    modules = {path.name for path in (package / "src" / "groundup_shiny").iterdir() if path.suffix}
    assert {f"groundup_shiny/{name}" for name in modules} <= set(names)
    assert "groundup_shiny/waivers.toml" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "tests" in name]


def test_groundup_finds_it(scripts: Path, package: Path, tmp_path: Path) -> None:
    listed = json.loads(run(scripts / "groundup", "backends", "--json", cwd=tmp_path))
    (entry,) = [entry for entry in listed if entry["name"] == "shiny"]
    assert entry["available"] is True
    rows = json.loads(run(scripts / "groundup", "ops", "--json", cwd=tmp_path))
    assert {row["backends"]["shiny"] for row in rows} == {"native", "composed"}


def test_its_tests_pass(scripts: Path, package: Path, tmp_path: Path) -> None:
    options = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    printed = run(scripts / "python", *options, package, cwd=tmp_path)
    assert re.search(r"^1\d\d passed", printed, re.MULTILINE), printed


def test_it_trains_a_transformer_with_the_losses_of_the_cpu(
    scripts: Path, package: Path, tmp_path: Path
) -> None:
    sizes = ["--n-layer=1", "--n-head=2", "--n-embd=16", "--block-size=16", "--vocab-size=300"]
    length = ["--max-iters=4", "--warmup-iters=1", "--log-interval=1", "--eval-iters=1"]
    losses = []
    for device in ("cpu", "shiny"):
        options = [*sizes, *length, "--sample-tokens=0", f"--device={device}", f"--out={device}"]
        run(scripts / "groundup", "train", "tiny", *options, cwd=tmp_path)
        lines = (tmp_path / device / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    cpu, shiny = losses
    assert len(cpu) == 4
    assert shiny == pytest.approx(cpu, rel=1e-4)


@pytest.mark.slow
def test_it_reaches_level_2_as_it_comes(scripts: Path, package: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    command = ("conformance", "shiny", "--level", "2", "--json", card)
    run(scripts / "groundup", *command, cwd=tmp_path, timeout=1800)
    totals = json.loads(card.read_text())["totals"]
    assert totals["passed"] > 20_000
    assert not any(totals[kind] for kind in ("failed", "waived", "blocked", "unsupported"))


# ---- docs/writing_a_backend.md ----


def commands() -> list[str]:
    blocks = re.findall(r"^```\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def test_the_commands_of_the_guide_work_in_order(scripts: Path, tmp_path: Path) -> None:
    """`pip` is uv's, without the extra that would ask an index for the suite. The whole suite runs
    above: here it runs on one op.
    """
    assert UV is not None
    ran = 0
    for command in commands():
        program, *arguments = shlex.split(command)
        if program == "pip":
            arguments = [word.replace("[test]", "") for word in arguments]
            assert arguments[:2] == ["install", "-e"]
            target = ("--python", scripts / "python", "-e", arguments[2])
            run(UV, "pip", "install", *target, cwd=tmp_path)
        elif arguments[0] == "conformance" and "--ops" not in arguments:
            run(scripts / program, *arguments, "--ops", "linear", cwd=tmp_path)
        else:
            run(scripts / program, *arguments, cwd=tmp_path)
        ran += 1
    assert ran == 8


def test_the_guide_counts_right(package: Path) -> None:
    """Lines of the template, and of each step of the Numba backend; the ops that need a kernel."""
    text = GUIDE.read_text()
    modules = [
        package / "src" / "groundup_shiny" / f"{m}.py" for m in ("backend", "device", "kernels")
    ]
    assert f" {sum(map(lines, modules))} lines of Python in\nthree modules" in text
    primitives = [op for op in all_ops().values() if not has(op, "compose") and not has(op, "view")]
    assert f"\n{len(primitives)} ops that have no composition" in text
    rows = re.findall(r"^\| [^|]+ \| ((?:`\w+\.py`(?:, )?)+) \| (\d+) \|$", text, re.MULTILINE)
    counted = []
    for files, count in rows:
        names = re.findall(r"`(\w+\.py)`", files)
        assert sum(lines(NUMBA / name) for name in names) == int(count), files
        counted += names
    assert sorted(counted) == sorted(p.name for p in NUMBA.glob("*.py") if p.name != "__init__.py")
    total = sum(map(lines, NUMBA.glob("*.py")))
    assert (
        f"{total} lines in {len(counted) + 1} modules"
        in (NUMBA.parents[1] / "README.md").read_text()
    )


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())

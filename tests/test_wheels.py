"""What users install: wheels, built from the sdists, in an environment without this source tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UV = os.environ.get("UV") or shutil.which("uv")
SOURCES = [*ROOT.glob("core/src/*"), *ROOT.glob("conformance/src/*"), *ROOT.glob("plugins/*/src/*")]
MEMBERS = {path.name for path in SOURCES if (path / "py.typed").exists()}
CORE = {"groundup", "groundup_cpu_ref"}  # each needs the other
ALONE = {"cpu": CORE, **{p.removeprefix("groundup_"): CORE | {p} for p in sorted(MEMBERS - CORE)}}

pytestmark = pytest.mark.skipif(
    UV is None and "CI" not in os.environ, reason="builds wheels with uv, which is not installed"
)


def run(*command: str | Path, cwd: Path) -> str:
    hidden = ("GROUNDUP_", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    assert UV is not None
    folder = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--all-packages", "--out-dir", folder, cwd=ROOT)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="session", params=ALONE)
def python(
    request: pytest.FixtureRequest, wheels: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The interpreter of a clean environment: the core's wheels, and those of one plugin alone."""
    return environment(ALONE[request.param], wheels, tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="session")
def with_suite(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the core and the conformance suite."""
    folder = tmp_path_factory.mktemp("suite")
    return environment(CORE | {"groundup_conformance"}, wheels, folder)


def environment(names: set[str], wheels: list[Path], folder: Path) -> Path:
    """The interpreter of a new environment with the wheels of those packages."""
    assert UV is not None
    wheels = [wheel for wheel in wheels if wheel.name.split("-")[0] in names]
    run(UV, "venv", "--python", sys.executable, folder / "venv", cwd=folder)
    interpreter = folder / "venv" / "bin" / "python"
    run(UV, "pip", "install", "--python", interpreter, *wheels, cwd=folder)
    return interpreter


def test_every_member_is_built_with_its_licence_and_types(wheels: list[Path]) -> None:
    built = {wheel.name.split("-")[0] for wheel in wheels}
    assert built == MEMBERS
    for wheel in wheels:
        names = zipfile.ZipFile(wheel).namelist()
        package, version = wheel.name.split("-")[:2]
        assert f"{package}/py.typed" in names
        assert f"{package}-{version}.dist-info/licenses/LICENSE" in names
        assert not [name for name in names if "tests" in name]


def test_every_source_file_is_in_its_wheel(wheels: list[Path]) -> None:
    for wheel in wheels:
        names = set(zipfile.ZipFile(wheel).namelist())
        package = wheel.name.split("-")[0]
        [source] = [*ROOT.glob(f"*/src/{package}"), *ROOT.glob(f"plugins/*/src/{package}")]
        files = [f for f in source.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
        assert {str(f.relative_to(source.parent)) for f in files} <= names


def test_groundup_backends_in_a_clean_environment(python: Path, tmp_path: Path) -> None:
    output = run(python.parent / "groundup", "backends", "--json", cwd=tmp_path)
    backends = {entry["name"]: entry for entry in json.loads(output)}
    assert backends["cpu"]["available"] is True
    for entry in backends.values():
        assert entry["available"] or (entry["reason"] and entry["fix"])


def test_a_gradient_in_a_clean_environment(python: Path, tmp_path: Path) -> None:
    code = (
        "import groundup as g; x = g.tensor([1.0, 2.0, 3.0], requires_grad=True); "
        "(x * x).sum().backward(); print(x.grad.numpy().tolist(), g.__file__)"
    )
    output = run(python, "-c", code, cwd=tmp_path)
    assert output.startswith("[2.0, 4.0, 6.0]")
    assert str(ROOT) not in output


def test_the_conformance_suite_in_a_clean_environment(with_suite: Path, tmp_path: Path) -> None:
    """By its command and by pytest, from a folder that has nothing to do with either."""
    case = ("--case", "softmax[float32,matrix,*]")
    command = with_suite.parent / "groundup"
    output = run(command, "conformance", "cpu", *case, "--json", "card.json", cwd=tmp_path)
    assert "0 failed" in output
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["totals"]["passed"] == len(card["cases"]) > 3
    suite = ("-p", "no:cacheprovider", "--pyargs", "groundup_conformance.suite")
    again = run(
        with_suite, "-m", "pytest", *suite, "--backend", "cpu", *case, "--json", "again.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert f"{card['totals']['passed']} passed, 0 failed" in again
    ids = [case["id"] for case in json.loads((tmp_path / "again.json").read_text())["cases"]]
    assert ids == [case["id"] for case in card["cases"]]

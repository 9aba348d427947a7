"""`groundup new-backend`: what it writes, what it refuses, and that what it wrote computes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from groundup.cli import app
from groundup.cli.new_backend import FILES, RESERVED, write_backend
from groundup.errors import ConfigError

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a generated backend `probe_7`."""
    return write_backend("probe_7", tmp_path_factory.mktemp("made") / "groundup-probe-7")


@pytest.fixture(scope="module")
def site(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an editable installation leaves: the modules, and metadata with the entry point."""
    folder = tmp_path_factory.mktemp("site")
    declared = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    (folder / "groundup_probe_7").symlink_to(package / "src" / "groundup_probe_7")
    record = folder / "groundup_probe_7-0.1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {declared['name']}\nVersion: {declared['version']}\n"
    )
    entries = declared["entry-points"]["groundup"].items()
    lines = ["[groundup]", *[f"{name} = {value}" for name, value in entries]]
    (record / "entry_points.txt").write_text("\n".join(lines))
    return folder


def python(site: Path, *arguments: str, cwd: Path) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GROUNDUP_")}
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env={**kept, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# ---- what is written ----


def test_every_file_is_written_and_no_other(package: Path) -> None:
    written = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    assert written == {target.format(name="probe_7") for target in FILES.values()}
    assert [path.name for path in package.parent.iterdir()] == ["groundup-probe-7"]


def test_no_placeholder_is_left(package: Path) -> None:
    for target in FILES.values():
        path = package / target.format(name="probe_7")
        assert not re.search(r"\$[A-Za-z{]", path.read_text()), path


def test_every_template_is_used() -> None:
    folder = Path(app.__file__).parent / "templates" / "backend"
    assert {path.name for path in folder.iterdir()} == {f"{source}.txt" for source in FILES}


def test_its_metadata(package: Path) -> None:
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    core = tomllib.loads(PYPROJECT.read_text())["project"]
    assert project["name"] == "groundup-probe-7"
    assert project["entry-points"]["groundup"] == {"probe_7": "groundup_probe_7.backend"}
    assert project["requires-python"] == core["requires-python"]
    major, minor = version("groundup").split(".")[:2]
    assert f"groundup>={major}.{minor},<{major}.{int(minor) + 1}" in project["dependencies"]


def test_it_can_be_read_in_one_sitting(package: Path) -> None:
    """What an author has to read: the modules, their settings and the README."""
    files = [*package.glob("src/*/*.py"), package / "pyproject.toml", package / "README.md"]
    assert sum(len(path.read_text().splitlines()) for path in files) <= 350


def test_it_has_no_waivers(package: Path) -> None:
    waivers = package / "src" / "groundup_probe_7" / "waivers.toml"
    assert tomllib.loads(waivers.read_text()) == {}


def test_it_owes_nothing_to_the_cpu_backend(package: Path) -> None:
    for path in package.rglob("*.py"):
        assert "cpu_ref" not in path.read_text(), path


def test_it_is_clean_and_typed(package: Path) -> None:
    """By the configuration of this workspace; the sdist, which lacks it, has nothing to check."""
    root = PYPROJECT.parent.parent / "pyproject.toml"
    if not root.exists():
        pytest.skip("the configuration of ruff and mypy is in the workspace, not in this package")
    source = package / "src"
    for arguments in (
        ["ruff", "check", "--config", str(root), str(source)],
        ["ruff", "format", "--check", "--config", str(root), str(package)],
        ["mypy", "--config-file", str(root), "--cache-dir", os.devnull, "--follow-imports=silent",
         str(source)],
    ):  # fmt: skip
        tool = Path(sys.executable).with_name(arguments[0])
        if not tool.exists():
            pytest.skip(f"{tool.name} is not installed beside this Python")
        environment = {**os.environ, "MYPYPATH": str(source)}
        command = [str(tool), *arguments[1:]]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=root.parent, env=environment
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


# ---- what it does ----


def test_it_is_listed_runs_every_op_and_is_no_default(site: Path, tmp_path: Path) -> None:
    assert "probe_7: available" in python(site, "-m", "groundup", "backends", cwd=tmp_path)
    matrix = python(site, "-m", "groundup", "ops", "--matrix", cwd=tmp_path).splitlines()
    column = matrix[0].split().index("probe_7")
    statuses = [line.split()[column] for line in matrix[1:]]
    assert set(statuses) == {"native", "composed"}
    assert statuses.count("composed") > 60, "most ops need no kernel"
    code = "import groundup as gu; print(gu.default_device().info.name)"
    assert python(site, "-c", code, cwd=tmp_path).strip() != "probe_7"


def test_its_own_tests_pass(site: Path, package: Path, tmp_path: Path) -> None:
    """They compare every sample of every op, and the training of an MLP, with the cpu."""
    options = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    printed = python(site, *options, "--rootdir", str(package), str(package), cwd=tmp_path)
    assert re.search(r"^1\d\d passed", printed, re.MULTILINE), printed


def test_narrow_and_wide_floats_agree_with_the_cpu(site: Path, tmp_path: Path) -> None:
    """The dtypes that its own tests leave out, on a primitive of each kind."""
    code = """
import numpy as np
import groundup as gu

rng = np.random.default_rng(0)
a, b = rng.standard_normal((9, 300)), rng.standard_normal((300, 5))
for dtype, error in (("float16", 2e-3), ("bfloat16", 2e-2), ("float64", 1e-13)):
    found = []
    for device in ("cpu", "probe_7"):
        x, y = (gu.tensor(values, dtype=dtype, device=device) for values in (a, b))
        ids = gu.tensor(np.arange(45).reshape(9, 5) % 7, dtype="int32", device=device)
        results = [x @ y, x.sum(1), x.mT.max(0), (x @ y).exp().log1p(), x.gather(ids, 1)]
        results += [gu.zeros(9, 7, dtype=dtype, device=device).scatter_add(ids, (x @ y), 1)]
        found.append([r.astype("float64").numpy() for r in results])
    for one, two in zip(*found):
        np.testing.assert_allclose(one, two, rtol=error, atol=error)
"""
    python(site, "-W", "error", "-c", code, cwd=tmp_path)


def test_an_index_out_of_range_is_refused(site: Path, tmp_path: Path) -> None:
    code = """
import groundup as gu

x = gu.ones(3, 4, device="probe_7")
for index in (-1, 3):
    ids = gu.tensor([[index] * 4], dtype="int32", device="probe_7")
    try:
        x.gather(ids, 0)
    except gu.errors.DomainError as error:
        print(error)
"""
    lines = python(site, "-c", code, cwd=tmp_path).splitlines()
    assert len(lines) == 2
    assert all("gather: an index is out of range for axis 0 of 3" in line for line in lines)


# ---- the command ----


def test_the_command_says_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run(["new-backend", "my_gpu2"]) == 0
    printed = capsys.readouterr().out
    assert "wrote groundup-my-gpu2 to groundup-my-gpu2" in printed
    assert 'pip install -e "groundup-my-gpu2"' in printed
    assert (tmp_path / "groundup-my-gpu2" / "src" / "groundup_my_gpu2" / "device.py").is_file()


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    folder = write_backend("mygpu", tmp_path / "a" / "b" / "mine")
    assert (folder / "pyproject.toml").is_file()


@pytest.mark.parametrize(
    "name",
    ["", "2gpu", "_gpu", "gpu_", "my__gpu", "MyGpu", "my-gpu", "my gpu", "grün", "a/b", "../x",
     "x.y", "gpu\n", "a" * 41],
)  # fmt: skip
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a backend"):
        write_backend(name, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_names_that_are_taken(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"the name '{name}' is taken"):
        write_backend(name, tmp_path / "out")


def test_the_projects_own_names_are_reserved() -> None:
    assert {"cpu", "cuda", "webgpu", "null"} <= RESERVED


def test_what_exists_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "file", "link"):
        out = tmp_path / name
        if name == "folder":
            out.mkdir()
        elif name == "file":
            out.write_text("mine")
        else:
            out.symlink_to(tmp_path / "nowhere")
        assert app.run(["new-backend", "mygpu", "--out", name]) == 2
        assert f"error: {name} exists already (choose another" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
    assert not list((tmp_path / "folder").iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*file/out: "):
        write_backend("mygpu", tmp_path / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_backend("mygpu", tmp_path / "out")
    assert not list(tmp_path.iterdir())

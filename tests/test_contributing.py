"""CONTRIBUTING's worked example, executed as it stands on a copy of the sources."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = ("core/src/groundup", "plugins/cpu_ref/src/groundup_cpu_ref")


def test_the_worked_op_is_found_by_the_tests(tmp_path: Path) -> None:
    for source in SOURCES:
        package = ROOT / source
        shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("*.pyc"))
    blocks = _blocks("## Adding an op")
    targets = _targets("## Adding an op")
    assert len(blocks) == len(targets) == 2
    for target, block in zip(targets, blocks, strict=True):
        package, _, rest = target.partition("/src/")
        file = tmp_path / rest
        assert file.exists(), package
        file.write_text(file.read_text() + "\n\n" + block)

    tests = [str(path) for path in sorted((ROOT / "core/tests").glob("test_registry_*.py"))]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "softplus", *tests],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = re.search(r"(\d+) passed", result.stdout)
    assert found is not None
    assert int(found[1]) >= 10  # samples in three dtypes, gradients, both implementations, ...


def test_the_worked_op_is_not_there_yet() -> None:
    from groundup.ops import REGISTRY

    assert "softplus" not in REGISTRY


def _section(heading: str) -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    start = text.index(heading)
    return text[start : text.index("\n## ", start + 1)]


def _blocks(heading: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", _section(heading), re.DOTALL)


def _targets(heading: str) -> list[str]:
    return re.findall(r"At the end of\s+`([^`]+)`", _section(heading))

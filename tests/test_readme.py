"""Every command and every Python block of the README is run, on small sizes where it takes long."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "core/README.md",
    ROOT / "examples/README.md",
    *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "plugins").glob("*/README.md")),
]  # fmt: skip
SIZES = "n-layer=1 n-embd=16 n-head=2 block-size=16 max-iters=2 vocab-size=300"
SMALL = [f"--{size}" for size in SIZES.split()]

PROGRAMS = r"git|cd|pip|uv|python|bash|groundup|pytest|\.venv/bin/\w+"

# What a test inside the checkout cannot run, each with what runs it instead.
ELSEWHERE = {
    "git clone": "the checkout that this test is in",
    "pip install": ".ci/run, and the clean environment of test_wheels.py",
    "python -m venv": "test_wheels.py",
    ".venv/bin/pip install": "test_packaging.py resolves requirements-dev.txt",
    "cd ": "the checkout",
    "uv sync": ".ci/run",
    "uv pip install": ".ci/run",
    ".venv/bin/python -m pip install": ".ci/run",
    "uv run pytest": "this very run, by .ci/run",
    "uv run ruff": ".ci/run",
    "uv run mypy": ".ci/run",
    "bash .ci/run": "the continuous integration",
    "uv run python docs/generate.py": "test_docs.py compares its output",
    "uv run python benchmarks/": "takes PyTorch and minutes; test_gpt.py compares the two",
    "uv run python examples/": "test_examples.py",
    "python docs/generate.py": "test_docs.py compares its output",
    "python examples/": "test_examples.py",
    "python -m pytest groundup-mygpu": "test_new_backend_installs.py",
}


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page that are in one of `languages` ("" for plain ones)."""
    found: list[list[str]] = []
    language: str | None = None  # of the block that we are in
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            language = line[3:].strip() if language is None else None
            if language in languages:
                found.append([])
        elif language in languages:
            found[-1].append(line)
    return ["\n".join(block) for block in found]


def commands(page: Path) -> list[str]:
    """The shell commands of a page, one by one. Trees of files and output are no commands."""
    lines = [line for block in blocks(page, "", "sh", "bash") for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("  #")[0].split("&&")]
    return [part for part in parts if re.match(rf"({PROGRAMS})( |$)", part)]


def is_elsewhere(command: str) -> bool:
    return any(command.startswith(known) for known in ELSEWHERE)


def groundup(command: str) -> list[str] | None:
    """The arguments of a `groundup` command, however it is called."""
    words = shlex.split(command)
    if words[:2] == ["uv", "run"]:
        words = words[2:]
    return words[1:] if words and Path(words[0]).name == "groundup" else None


def run(arguments: list[str], folder: Path) -> str:
    if arguments[0] == "train" and "--resume" not in arguments:
        arguments = [*arguments, *SMALL]
    result = subprocess.run(
        [sys.executable, "-m", "groundup", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert result.returncode == 0, f"{arguments}: {result.stdout}{result.stderr}"
    return result.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_known(page: Path) -> None:
    unknown = [c for c in commands(page) if groundup(c) is None and not is_elsewhere(c)]
    assert not unknown, "run them here, or say in ELSEWHERE what does"


def test_the_commands_of_the_readme_work_in_order(tmp_path: Path) -> None:
    ran = [arguments for c in commands(ROOT / "README.md") if (arguments := groundup(c))]
    assert ["train"] in ran
    for arguments in ran:
        assert run(arguments, tmp_path).strip()


def test_the_python_of_the_readme_works(tmp_path: Path) -> None:
    found = blocks(ROOT / "README.md", "python")
    assert found
    for block in found:
        subprocess.run([sys.executable, "-W", "error", "-c", block], cwd=tmp_path, check=True)

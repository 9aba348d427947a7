"""The commands and the code of the pages about the conformance suite work as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from groundup_conformance.waivers import parse

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs/conformance.md"
PAGES = [GUIDE, ROOT / "conformance/README.md"]
TOOLS = {"repro", "explain", "coverage", "compare", "badge", "markdown", "selftest", "mutate"}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page that are in one language ("" for plain ones)."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [block for found, block in fenced if found == language]


def commands(page: Path) -> list[list[str]]:
    """The arguments of each `groundup` command; whole runs of the suite are narrowed to one op."""
    found = []
    for line in filter(None, "\n".join(blocks(page, "")).splitlines()):
        words = shlex.split(line, comments=True)
        assert words[:2] == ["groundup", "conformance"], line
        arguments = words[1:]
        if arguments[1] not in TOOLS and not {"--ops", "--case"} & set(arguments):
            arguments += ["--ops", "tanh"]
        found.append(arguments)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_work_in_order(page: Path, tmp_path: Path) -> None:
    found = commands(page)
    assert len(found) > 2
    for arguments in found:
        done = subprocess.run(
            [sys.executable, "-m", "groundup", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "NO_COLOR": "1"},
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        assert done.stdout or arguments[1] == "badge"


def test_the_waiver_of_the_guide_is_one() -> None:
    [text] = blocks(GUIDE, "toml")
    [waiver] = parse(text, "the guide")
    assert waiver.profile == "wgsl"


def test_the_reference_of_the_guide_is_one(tmp_path: Path) -> None:
    [code] = blocks(GUIDE, "python")
    check = (
        "\nimport numpy as np\n"
        "from groundup_conformance.oracle.registry import NUMBERS\n"
        "from groundup_conformance.budgets import IEEE\n"
        "from groundup_conformance.oracle.number import leaf\n"
        "from groundup.dtypes import float32\n"
        "x = leaf(np.array([2.0], np.float32), float32, IEEE)\n"
        "assert NUMBERS['mypackage::cube'](None, x).value.tolist() == [8.0]\n"
    )
    subprocess.run([sys.executable, "-c", code + check], cwd=tmp_path, check=True)

"""The page on ladders tells of every rung, in order, and its commands work."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import groundup as g
from groundup.errors import BackendUnavailable

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/ladders.md").read_text()
START = "uv run python benchmarks/ladders.py "
COMMANDS = [
    line.removeprefix(START).split("  #")[0].strip()
    for line in PAGE.splitlines()
    if line.startswith(START)
]
TITLES = {
    "matmul": "Matrix product", "layer_norm": "Layer norm", "adamw": "AdamW",
    "attention": "Attention",
}  # fmt: skip
FILES = sorted((ROOT / "plugins").glob("*/src/*/kernels/ladder/*"))


def rungs_under(title: str) -> list[str]:
    """What a section has in bold."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"\*\*(\d [\w ]+)\*\*", " ".join(section.split()))


def test_every_rung_is_told_in_order() -> None:
    assert len(FILES) >= 22
    told = {ladder: rungs_under(title) for ladder, title in TITLES.items()}
    for file in FILES:
        ladder, number, name = re.split(r"_(?=\d)|(?<=\d)_", file.stem)
        assert f"{number} {name}" in told[ladder], file
    for names in told.values():
        numbers = [int(name[0]) for name in names]
        begins = [i for i, n in enumerate(numbers) if n == 1]  # of a backend's ladder
        for start, end in zip(begins, [*begins[1:], None], strict=True):
            part = numbers[start:end]
            assert part == list(range(1, len(part) + 1))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str) -> None:
    """On small sizes. Each rung is checked by the command itself."""
    device, *_ = words = command.split()
    try:
        g.device_for(device)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    script = [sys.executable, str(ROOT / "benchmarks/ladders.py"), *words, "--small"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^1 naive +[\d.]+ ", done.stdout, re.MULTILINE)

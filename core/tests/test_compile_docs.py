"""The Python of docs/compile.md does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "compile.md"


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), space)
    shown = capsys.readouterr().out
    assert "x the largest live set" in shown
    assert shown.endswith("outputs   %0\n")  # -(-x) is the input itself
    assert (tmp_path / "step.safetensors").exists()

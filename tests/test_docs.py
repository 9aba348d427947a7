"""The documentation names everything that it must name."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import pytest

from groundup.backends import hookspecs
from groundup.backends.plugins import HOOKS

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented(hook: str) -> None:
    function = getattr(hookspecs, hook)
    assert inspect.getdoc(function)
    arguments = ", ".join(inspect.signature(function).parameters)
    assert f"\n## `{hook}({arguments})`\n" in (DOCS / "plugins.md").read_text()


def test_every_documented_hook_exists() -> None:
    headings = [
        line.removeprefix("## `").split("(")[0]
        for line in (DOCS / "plugins.md").read_text().splitlines()
        if line.startswith("## `")
    ]
    assert headings == list(HOOKS)


def test_the_table_of_ops_is_current() -> None:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert (DOCS / "ops.md").read_text() == generate.ops_page(), "run: python docs/generate.py"

"""The packages agree with each other and with the files that describe them."""

from __future__ import annotations

import tomllib
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
MEMBERS = ["core", "conformance", *(str(p.relative_to(ROOT)) for p in ROOT.glob("plugins/*"))]


def table(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


@pytest.mark.parametrize("member", MEMBERS)
def test_members_share_one_version_and_one_licence(member: str) -> None:
    project = table(member)["project"]
    assert version(project["name"]) == version("groundup")
    assert (ROOT / member / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (ROOT / member / "README.md").read_text().startswith(f"# {project['name']}\n")


@pytest.mark.parametrize("member", MEMBERS)
def test_pins_between_members_hold(member: str) -> None:
    """uv drops the specifiers of workspace members, so a stale pin shows only for users of pip."""
    name = table(member)["project"]["name"]
    between = [Requirement(text) for text in requires(name) or ()]
    between = [r for r in between if r.name.startswith("groundup")]
    assert between
    for requirement in between:
        assert requirement.specifier.contains(version(requirement.name)), requirement


@pytest.mark.parametrize("member", MEMBERS)
def test_every_dependency_has_a_floor(member: str) -> None:
    for text in table(member)["project"]["dependencies"]:
        operators = {specifier.operator for specifier in Requirement(text).specifier}
        assert ">=" in operators, text


def test_the_pip_twin_installs_what_uv_does() -> None:
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    editable = {line.removeprefix("-e ./") for line in lines if line.startswith("-e ")}
    assert editable == set(MEMBERS)
    tools = {line for line in lines if not line.startswith("-e ")}
    assert tools == set(table(".")["dependency-groups"]["dev"])


def test_the_workspace_names_every_member() -> None:
    root = table(".")
    names = {table(member)["project"]["name"] for member in MEMBERS}
    assert set(root["project"]["dependencies"]) == names
    assert set(root["tool"]["uv"]["sources"]) == names
    sources = [f"{member}/src" for member in MEMBERS]
    assert sorted(root["tool"]["mypy"]["files"]) == sorted(sources)
    assert sorted(root["tool"]["mypy"]["mypy_path"]) == sorted(sources)

"""Imports point only downward: the order of the layers, read from the sources.

A layer may import itself and what lies below. Imports for type checkers alone do not count.
Imports inside functions count, and none may hide without a reason: each is listed here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import groundup

ROOT = Path(groundup.__file__).parent

# From the top. A name stands for a module, or for all of a package.
LAYERS = (
    "__main__",
    "cli",
    "train generate serve",
    "models data",
    "nn optim",
    "program",
    "groundup",  # the package's own names: all that holds or takes tensors, nothing above
    "support gradcheck autocast checkpoint profiler random creation tensor tensor_methods indexing",
    "autograd",
    "dispatch",
    "graph",
    "ops",
    "backends",
    "layout serialization files suggest spans units",
    "dtypes shapes",
    "errors _version",
)
RANK = {name: rank for rank, names in enumerate(reversed(LAYERS)) for name in names.split()}

# (importer, imported): why it is not at the top of the file.
INSIDE_FUNCTIONS = {
    ("cli.app", "cli.generate"): "a command's imports wait until the command line runs",
    ("cli.app", "cli.graph"): "a command's imports wait until the command line runs",
    ("cli.app", "cli.listings"): "a command's imports wait until the command line runs",
    ("cli.app", "cli.new_backend"): "a command's imports wait until the command line runs",
    ("cli.app", "cli.profile"): "a command's imports wait until the command line runs",
    ("cli.app", "cli.train"): "a command's imports wait until the command line runs",
    ("cli.generate", "generate"): "the command --help must be quick",
    ("cli.graph", "backends.null"): "the command --help must be quick",
    ("cli.graph", "backends.devices"): "the command --help must be quick",
    ("cli.graph", "creation"): "the command --help must be quick",
    ("cli.graph", "program.drawing.figures"): "the command --help must be quick",
    ("cli.graph", "program.drawing.page"): "the command --help must be quick",
    ("cli.graph", "program.drawing.sheet"): "the command --help must be quick",
    ("cli.graph", "program.saved"): "the command --help must be quick",
    ("cli.graph", "train.dataset"): "the command --help must be quick",
    ("cli.graph", "train.programs"): "the command --help must be quick",
    ("cli.listings", "backends.api"): "the command --help must be quick",
    ("cli.listings", "backends.installed"): "the command --help must be quick",
    ("cli.listings", "support"): "the command --help must be quick",
    ("cli.profile", "cli.app"): "a command that runs another",
    ("cli.profile", "profiler.profile"): "the command --help must be quick",
    ("cli.train", "train.loop"): "the command --help must be quick",
    ("cli.train", "train.resume"): "the command --help must be quick",
    ("profiler.profile", "profiler.table"): "rich is slow to load",
    ("profiler.profile", "profiler.trace"): "only who writes a trace needs it",
    ("indexing", "creation"): "creation needs Tensor, and Tensor needs indexing",
    ("ops.attention_cache", "ops.assembly"): "a composition's parts",
    ("ops.loss", "ops.masking"): "a composition's parts",
    ("ops.random_ops", "ops.assembly"): "a composition's parts",
}


class Import(NamedTuple):
    importer: str
    imported: str
    inside_function: bool
    line: int


def modules() -> dict[str, Path]:
    """Every module by its name below `groundup`, which is itself called that."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name or "groundup"] = path
    return found


MODULES = modules()


def imports(name: str, source: str) -> Iterator[Import]:
    """What a module imports of groundup, except for type checkers."""

    def walk(node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                for other in child.orelse:
                    yield from walk(other, inside)
            elif isinstance(child, ast.Import | ast.ImportFrom):
                for target in _targets(child):
                    yield Import(name, target, inside, child.lineno)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, inside or function)

    return walk(ast.parse(source), inside=False)


def _targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        assert node.level == 0, "imports are absolute"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    for full in names:
        package, _, rest = full.partition(".")
        if package == "groundup":
            yield _module(rest)


def _module(name: str) -> str:
    """The module that `name` is, or is a name of: `ops.op` for `ops.op.Op`."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "groundup"


def rank(module: str) -> int:
    return RANK[module.partition(".")[0]]


IMPORTS = [found for name, path in MODULES.items() for found in imports(name, path.read_text())]


def test_every_module_has_a_layer() -> None:
    assert {name.partition(".")[0] for name in MODULES} <= set(RANK)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_only_downward(name: str) -> None:
    upward = [
        f"{name}:{found.line} imports {found.imported}"
        for found in IMPORTS
        if found.importer == name and rank(found.imported) > rank(name)
    ]
    assert not upward


def test_imports_inside_functions_are_listed_with_a_reason() -> None:
    hidden = {(found.importer, found.imported) for found in IMPORTS if found.inside_function}
    assert hidden == set(INSIDE_FUNCTIONS)


def test_no_modules_import_each_other() -> None:
    """At the top of files, that is: within a layer too, there is an order."""
    waiting: dict[str, set[str]] = {name: set() for name in MODULES}
    for found in IMPORTS:
        parent = found.imported == found.importer.rpartition(".")[0]
        if not found.inside_function and not parent:
            waiting[found.importer].add(found.imported)
    while ready := [name for name, needed in waiting.items() if not needed & waiting.keys()]:
        for name in ready:
            del waiting[name]
    assert not waiting, "each of these imports another of them"


def test_an_upward_import_would_be_found() -> None:
    source = "def f():\n    from groundup.nn.linear import Linear\nimport groundup.ops.op\n"
    assert list(imports("layout", source)) == [
        Import("layout", "nn.linear", True, 2),
        Import("layout", "ops.op", False, 3),
    ]
    checked = "if TYPE_CHECKING:\n    from groundup.tensor import Tensor\n"
    assert list(imports("layout", checked)) == []

"""The suite's cases without pytest: the same functions, asked of any device, in any order.

What pytest would collect from `suite/`, under the same names. The selftest asks a few cases at a
time of a hundred devices, so it cannot start pytest for each.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs
import pytest

from groundup.backends.api import Device
from groundup_conformance import suite
from groundup_conformance.cases import Check, Ops
from groundup_conformance.ids import CaseId
from groundup_conformance.judging import Failed
from groundup_conformance.running import Oracle
from groundup_conformance.session import generator_of

_LEFT_OUT: Final = ("fuzz",)  # tracks that look for cases instead of having them
_OUTCOMES: Final = (pytest.fail.Exception, Exception)


@attrs.frozen(eq=False)
class Question:
    """One case, and the function of the suite that asks it. `kind` is its class, for reports."""

    id: CaseId
    level: int | None
    track: str | None
    kind: str
    function: Callable[..., object]
    given: Mapping[str, Any]  # arguments that belong to the case

    @property
    def check(self) -> Check | None:
        """The case's data; None for a test that is a case by itself."""
        return self.given.get("check")

    def ask(self, device: Device, oracle: Oracle) -> str | None:
        """Why the device fails it, in one line; None if it passes or says that it cannot."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                self._call(device, oracle)
            except pytest.skip.Exception:
                return None
            except _OUTCOMES as error:
                return _one_line(error)
        return None

    def _call(self, device: Device, oracle: Oracle) -> None:
        asked = inspect.signature(self.function).parameters
        fixtures: dict[str, Any] = {
            "device": device, "oracle": oracle, "profile": oracle.profile,
            "record": _forget, "backend_name": device.info.name.partition(":")[0], **self.given,
        }  # fmt: skip
        if "tmp_path" not in asked:
            self.function(**{name: fixtures[name] for name in asked})
            return
        with tempfile.TemporaryDirectory() as folder:
            fixtures["tmp_path"] = Path(folder)
            self.function(**{name: fixtures[name] for name in asked})


def questions(
    ops: Ops, device: Device, *, level: int, tracks: Iterable[str] = ()
) -> list[Question]:
    """All cases up to `level` and of `tracks` that the device declares to support, by level.

    Those of ops are made for `ops` alone; the others, such as those of memory, are always there.
    """
    found: list[Question] = []
    wanted = set(tracks) - set(_LEFT_OUT)
    for module in _modules():
        track = getattr(module, "TRACK", None)
        if track in wanted or (track is None and level >= module.LEVEL):
            for function in _functions(module):
                found += _of_function(module, function, ops, device)
    found = [q for q in found if q.level is None or q.level <= level]
    return sorted(found, key=lambda q: (q.level is None, q.level))


def _modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(suite.__path__):
        module = importlib.import_module(f"{suite.__name__}.{found.name}")
        if getattr(module, "TRACK", None) not in _LEFT_OUT:
            yield module


def _functions(module: ModuleType) -> Iterator[Callable[..., object]]:
    for name, function in vars(module).items():
        if name.startswith("test_") and getattr(function, "__module__", "") == module.__name__:
            yield function


def _of_function(
    module: ModuleType, function: Callable[..., object], ops: Ops, device: Device
) -> Iterator[Question]:
    level, track = getattr(module, "LEVEL", None), getattr(module, "TRACK", None)
    generator = generator_of(function)
    if generator is None:
        part = module.__name__.rpartition(".")[2].removeprefix("test_")
        name = getattr(function, "__name__", "").removeprefix("test_")
        for label, given in _parameters(function):
            yield Question(CaseId(part, "-", name, "-", label), level, track, name, function, given)
        return
    for check in generator(ops, device.info):
        if check.unsupported is None:
            where = check.level if track is None else None
            yield Question(check.id, where, track, check.kind, function, {"check": check})


def _parameters(function: Callable[..., object]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(label, arguments) for each combination that `pytest.mark.parametrize` asks for."""
    marks = [m for m in getattr(function, "pytestmark", []) if m.name == "parametrize"]
    axes = []
    for mark in marks:
        name, values = mark.args
        labels = mark.kwargs.get("ids") or [str(value) for value in values]
        axes.append([(label, name, value) for label, value in zip(labels, values, strict=True)])
    for combination in itertools.product(*axes):
        label = "-".join(label for label, _, _ in combination) or "-"
        yield label, {name: value for _, name, value in combination}


def _forget(ratio: float | None = None, ulp: float | None = None) -> None:
    """Figures are not kept here."""


def _one_line(error: BaseException) -> str:
    text = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:200]

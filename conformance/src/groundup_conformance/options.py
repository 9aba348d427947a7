"""The options of a run, and what they select."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from groundup.backends.devices import device_for
from groundup.backends.installed import BackendEntry, backends
from groundup.errors import ConfigError
from groundup_conformance.budgets import PROFILES
from groundup_conformance.ids import CaseId, matches, may_be_of

if TYPE_CHECKING:
    import pytest

    from groundup.backends.api import Device

LEVELS: Final = (0, 1, 2, 3)
TRACKS: Final = ("robust", "threads", "leaks", "fuzz")
DEFAULT_LEVEL: Final = 2

# name, help, more for argparse
_OPTIONS: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("backend", "the backend to prove, such as cpu", {"metavar": "NAME"}),
    ("device", "one of its devices (NAME:0)", {"metavar": "NAME:INDEX"}),
    ("level", f"levels 0 to this one ({DEFAULT_LEVEL})", {"type": int, "choices": LEVELS}),
    (
        "track",
        "a track; without --level no levels (may be repeated)",
        {"action": "append", "choices": (*TRACKS, "all")},
    ),
    ("ops", "only ops that fit: softmax,conv*", {"metavar": "GLOB"}),
    ("dtype", "only cases of dtypes that fit: float*", {"metavar": "GLOB"}),
    ("case", "only cases whose name fits: 'softmax[float32,*]'", {"metavar": "GLOB"}),
    ("profile", "error budgets, if not the device's own", {"choices": tuple(PROFILES)}),
    ("waivers", "a file of waivers, if not the backend's own", {"type": Path, "metavar": "FILE"}),
    (
        "baseline",
        "an earlier scorecard: errors may not grow fourfold",
        {"type": Path, "metavar": "FILE"},
    ),
    (
        "examples",
        "programs that the fuzz track makes (300)",
        {"type": int, "default": 300, "metavar": "N"},
    ),
    ("seed", "where the fuzz track starts (0)", {"type": int, "default": 0, "metavar": "N"}),
    ("json", "write the scorecard", {"type": Path, "metavar": "FILE"}),
    ("html", "write the scorecard as a page", {"type": Path, "metavar": "FILE"}),
)


@attrs.frozen
class Options:
    """What a run was asked for, checked."""

    backend: str
    device: str
    level: int | None
    tracks: frozenset[str]
    ops: str | None = None
    dtype: str | None = None
    case: str | None = None
    profile: str | None = None
    waivers: Path | None = None
    baseline: Path | None = None
    examples: int = 300
    seed: int = 0
    json: Path | None = None
    html: Path | None = None

    def selects(self, case: CaseId) -> bool:
        """Whether the filters keep a case."""
        return (
            (self.ops is None or matches(case.op, self.ops))
            and (self.dtype is None or case.dtype == "-" or matches(case.dtype, self.dtype))
            and (self.case is None or matches(str(case), self.case))
        )

    def may_run(self, op: str) -> bool:
        """Whether the filters may keep a case of an op: spares making the cases of the others."""
        fits = self.ops is None or matches(op, self.ops)
        return fits and (self.case is None or may_be_of(self.case, op))

    @property
    def filters(self) -> dict[str, str]:
        """The filters that leave cases out."""
        given = {"ops": self.ops, "dtype": self.dtype, "case": self.case}
        return {name: value for name, value in given.items() if value is not None}

    def entry(self) -> BackendEntry:
        """The backend, as it is installed. Raises ConfigError."""
        found = backends().get(self.backend)
        if found is None:
            raise ConfigError(f"no backend named {self.backend!r} is installed")
        return found

    def open(self) -> Device:
        """The device under test. Raises BackendUnavailable."""
        return device_for(self.device)


def add_options(parser: pytest.Parser) -> None:
    """Each option by its short name and as --conformance-NAME, which nobody else has.

    Where another plugin (pytest-html, pytest-profiling) has the short name, the long one remains.
    """
    group = parser.getgroup("groundup conformance")
    for name, text, more in _OPTIONS:
        names, keywords = [f"--{name}", long_name(name)], {"dest": dest(name), "help": text, **more}
        try:
            group.addoption(*names, **keywords)
        except (ValueError, ArgumentError):
            group.addoption(names[1], **keywords)


def long_name(option: str) -> str:
    """How the option is always called."""
    return f"--conformance-{option}"


def dest(option: str) -> str:
    """Where pytest keeps its value."""
    return f"conformance_{option}"


def from_config(config: pytest.Config) -> Options:
    """The options of a pytest run. Raises ConfigError."""
    given = {name: config.getoption(dest(name)) for name, _, _ in _OPTIONS}
    return resolve(**given)


def resolve(
    *,
    backend: str | None,
    device: str | None = None,
    level: int | None = None,
    track: Sequence[str] | None = None,
    **rest: Any,
) -> Options:
    """Options with their defaults. Raises ConfigError where they contradict each other, or what
    was asked for cannot be.
    """
    if backend is None and device is None:
        raise ConfigError("--backend is missing", hint="such as --backend cpu")
    backend = backend or str(device).partition(":")[0]
    if ":" in backend and device is None:
        backend, device = backend.partition(":")[0], backend
    device = device or backend
    if device.partition(":")[0] != backend:
        raise ConfigError(f"{device} is no device of the backend {backend}")
    tracks = frozenset(TRACKS if "all" in (track or ()) else track or ())
    if level is None and not tracks:
        level = DEFAULT_LEVEL
    options = Options(backend=backend, device=device, level=level, tracks=tracks, **rest)
    if options.examples < 1:
        raise ConfigError(f"--examples must be at least 1, got {options.examples}")
    for path in (options.json, options.html):
        if path and not path.absolute().parent.is_dir():  # known now, not when all has run
            raise ConfigError(f"cannot write {path}: there is no such folder")
    return options

"""The options of a benchmark run, and what they select."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from groundup import dtypes as dt
from groundup.dtypes import DType
from groundup.errors import ConfigError
from groundup.ops import REGISTRY
from groundup_conformance.bench.models import TASKS
from groundup_conformance.bench.peers import NAMES
from groundup_conformance.bench.timing import Effort
from groundup_conformance.bench.works import REGIMES
from groundup_conformance.ids import matches

if TYPE_CHECKING:
    import pytest

SUITES: Final = ("quick", "full", "models")
_MIB: Final = 1 << 20

_OPTIONS: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    (
        "backend",
        "a backend or device to measure (may be repeated)",
        {"metavar": "NAME", "action": "append"},
    ),
    ("suite", "quick (the default), full, or models", {"choices": SUITES, "default": "quick"}),
    ("ops", "only ops, or tasks, that fit: softmax,conv*", {"metavar": "GLOB"}),
    ("dtype", "only these dtypes: float32,bfloat16", {"metavar": "NAMES"}),
    ("peers", f"libraries to compare with: {','.join(NAMES)}", {"metavar": "NAMES"}),
    ("plot", "draw rooflines and ratios into this folder", {"metavar": "DIR", "type": Path}),
)


@attrs.frozen
class Options:
    """What a run was asked for, checked."""

    backends: tuple[str, ...]
    suite: str = "quick"
    ops: str | None = None
    dtypes: tuple[DType, ...] = (dt.float32,)
    peers: tuple[str, ...] = ()
    plot: Path | None = None

    def selects(self, op: str) -> bool:
        """Whether the op, or the task of a model, is wanted."""
        return self.ops is None or matches(op, self.ops)

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """The regimes and how many elements they have; fewer in a quick run."""
        most = 1 << 22 if self.suite == "quick" else 1 << 26
        return [(regime, min(size, most)) for regime, size in REGIMES.items()]

    @property
    def checked(self) -> int:
        """Elements up to which a result is checked whole, where some rows will not do."""
        return 9_000_000 if self.suite == "quick" else 1 << 27

    def effort(self, timer: bool) -> Effort:
        """How long to measure on a device with or without a clock of its own."""
        flushed = (256 if timer else 64) * _MIB
        if self.suite == "quick":
            return Effort(seconds=0.04, least=5, most=15, flushed=flushed)
        return Effort(seconds=0.3, least=7, most=40, flushed=flushed)


def add_options(parser: pytest.Parser) -> None:
    """Each by its short name and as --bench-NAME, which nobody else has."""
    group = parser.getgroup("groundup bench")
    for name, text, more in _OPTIONS:
        names, keywords = [f"--{name}", long_name(name)], {"dest": f"bench_{name}", **more}
        try:
            group.addoption(*names, help=text, **keywords)
        except (ValueError, ArgumentError):
            group.addoption(names[1], help=text, **keywords)


def long_name(option: str) -> str:
    """How the option is always called."""
    return f"--bench-{option}"


def from_config(config: pytest.Config) -> Options:
    """The options of a pytest run. Raises ConfigError."""
    return resolve(**{name: config.getoption(f"bench_{name}") for name, _, _ in _OPTIONS})


def resolve(
    *,
    backend: Sequence[str] | None,
    dtype: str | None = None,
    peers: str | None = None,
    suite: str = "quick",
    ops: str | None = None,
    **rest: Any,
) -> Options:
    """Options with their defaults. Raises ConfigError for names that are none."""
    if suite not in SUITES:
        raise ConfigError(f"no suite named {suite!r}", hint=f"there are {', '.join(SUITES)}")
    names = tuple(name for name in (peers or "").split(",") if name)
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"no peer named {name!r}", hint=f"there are {', '.join(NAMES)}")
    known = TASKS if suite == "models" else tuple(REGISTRY)
    if ops is not None and not any(matches(name, ops) for name in known):
        what, such = ("task", known[0]) if suite == "models" else ("op", "softmax,conv*")
        raise ConfigError(f"no {what} fits --ops {ops!r}", hint=f"such as {such}")
    wanted = [_dtype(name) for name in (dtype or "float32").split(",")]
    backends = tuple(dict.fromkeys(backend or ("cpu",)))
    return Options(backends, suite, ops, dtypes=tuple(wanted), peers=names, **rest)


def _dtype(name: str) -> DType:
    found = {known.name: known for known in dt.ALL}.get(name)
    if found is None:
        raise ConfigError(f"no dtype named {name!r}", hint="such as float32, bfloat16, float16")
    return found

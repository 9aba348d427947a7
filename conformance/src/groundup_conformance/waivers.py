"""Waivers: cases of a backend that are known to fail, with a reason and a day to look again.

They stand in `waivers.toml` inside the backend's own package, so that they are installed with it:

    [[waiver]]
    id = "conv2d[float16,*]"       # a name or a pattern of names
    reason = "the driver rounds halves towards zero"
    expires = 2027-06-30           # from the next day on, the case fails again
    issue = "https://..."          # optional
    profile = "wgsl"               # optional: only there

They are strict: a waived case that passes is a failure, so is a waiver that fits no case or has
expired. A waived case counts as waived, never as passed.
"""

from __future__ import annotations

import datetime
import importlib.resources
import importlib.util
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from groundup.backends.api import Backend
from groundup.errors import ConfigError
from groundup_conformance.ids import matches

FILE: Final = "waivers.toml"
_KEYS: Final = {"id": str, "reason": str, "expires": datetime.date, "issue": str, "profile": str}
_REQUIRED: Final = ("id", "reason", "expires")


@attrs.frozen
class Waiver:
    """One entry of a waivers file."""

    id: str
    reason: str
    expires: datetime.date
    issue: str = ""
    profile: str = ""

    def applies(self, case: str) -> bool:
        """Whether it is about that case."""
        return matches(case, self.id)

    def expired(self, today: datetime.date) -> bool:
        """Whether its last day has passed."""
        return today > self.expires


class Waivers:
    """The waivers for one run, and which of them were of use."""

    def __init__(
        self, entries: Sequence[Waiver], profile: str, today: datetime.date | None = None
    ) -> None:
        self.today = today or datetime.datetime.now(tz=datetime.UTC).date()
        self.entries = [w for w in entries if w.profile in ("", profile)]
        self._used: set[Waiver] = set()

    def find(self, case: str) -> Waiver | None:
        """The waiver of a case, unless it has expired."""
        for waiver in self.entries:
            if waiver.applies(case):
                self._used.add(waiver)
                if not waiver.expired(self.today):
                    return waiver
        return None

    def complaints(self, *, complete: bool) -> list[str]:
        """Expired waivers, and in a complete run those that fit no case."""
        found = [
            f"the waiver of {w.id} expired on {w.expires}"
            for w in self.entries
            if w.expired(self.today)
        ]
        if complete:
            stale = [w for w in self.entries if w not in self._used]
            found += [f"the waiver of {w.id} fits no case" for w in stale]
        return found


def of_backend(backend: Backend) -> list[Waiver]:
    """The waivers in the package that `backend` comes from. Raises ConfigError."""
    package = type(backend).__module__.partition(".")[0]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    file = importlib.resources.files(package) / FILE
    return parse(file.read_text(encoding="utf-8"), f"{package}/{FILE}") if file.is_file() else []


def from_file(path: Path) -> list[Waiver]:
    """The waivers in a file. Raises ConfigError."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"cannot read waivers from {path}: {error.strerror}") from error


def parse(text: str, where: str) -> list[Waiver]:
    """The waivers that a file holds. Raises ConfigError naming the entry that is not in order."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: {error}") from error
    if set(tables) - {"waiver"} or not isinstance(tables.get("waiver", []), list):
        raise ConfigError(f"{where}: only [[waiver]] tables belong there")
    return [
        _entry(table, f"{where}, waiver {number}")
        for number, table in enumerate(tables.get("waiver", []), 1)
    ]


def _entry(table: Mapping[str, Any], where: str) -> Waiver:
    for key, value in table.items():
        kind = _KEYS.get(key)
        if kind is None:
            raise ConfigError(f"{where}: unknown key {key!r}", hint=f"one of {', '.join(_KEYS)}")
        if type(value) is not kind or not value:  # a datetime is a date, and compares with none
            raise ConfigError(f"{where}: {key} must be a {kind.__name__}, got {value!r}")
    missing = [key for key in _REQUIRED if key not in table]
    if missing:
        raise ConfigError(f"{where}: {' and '.join(missing)} missing")
    return Waiver(**table)

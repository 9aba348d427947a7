"""The trial of the suite: each planted bug must make a case fail that a clean backend passes.

The cases that are there for a bug are asked first, then the others of its ops, each of a clean
device and then of the one with the bug, until one fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs

from groundup.backends.api import Device
from groundup.backends.devices import device_for
from groundup.backends.installed import backends
from groundup.errors import ConfigError
from groundup.ops.op import Op
from groundup.ops.third_party import all_ops
from groundup_conformance.budgets import PROFILES
from groundup_conformance.ids import matches, may_be_of
from groundup_conformance.running import Oracle
from groundup_conformance.selftest.planting import BUGS, Bug
from groundup_conformance.selftest.questions import Question, questions

SCHEMA: Final = 1
_BACKEND: Final = "cpu"


@attrs.frozen
class Outcome:
    """What came of one bug. `killed_by` is the case that failed, None if none did."""

    name: str
    what: str
    killed_by: str | None
    where: str  # "level 1", "track leaks"; empty if nothing killed it
    aimed: bool  # whether that case is one of those that are there for this bug
    reason: str  # why the case failed
    asked: int  # cases
    seconds: float


@attrs.frozen
class Report:
    """What came of all. `unclean` are cases that the backend fails without any bug."""

    outcomes: tuple[Outcome, ...]
    unclean: tuple[str, ...]
    asked: int  # cases that the clean backend was asked
    seconds: float

    @property
    def survivors(self) -> list[str]:
        """The bugs that nothing found."""
        return [o.name for o in self.outcomes if o.killed_by is None]

    @property
    def ok(self) -> bool:
        """Whether the suite is to be believed."""
        return not self.survivors and not self.unclean

    def as_json(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "schema": SCHEMA,
            "planted": len(self.outcomes),
            "killed": len(self.outcomes) - len(self.survivors),
            "clean": {"asked": self.asked, "failed": list(self.unclean)},
            "seconds": round(self.seconds, 1),
            "bugs": [
                attrs.asdict(attrs.evolve(o, seconds=round(o.seconds, 3))) for o in self.outcomes
            ],
        }


class Trial:
    """One run: it remembers which cases the clean backend has passed."""

    def __init__(self) -> None:
        device_for(_BACKEND)  # says what is wrong if it is not installed
        self._clean = open_device()
        self._oracle = Oracle(PROFILES[self._clean.info.profile])
        self._ops: dict[str, type[Op]] = dict(all_ops())
        self._passed: set[str] = set()
        self.unclean: dict[str, str] = {}  # case -> why

    def run(self, bug: Bug) -> Outcome:
        """Ask until a case fails."""
        start = time.perf_counter()
        asked, killer, reason = 0, None, ""
        device = open_device()
        for question in self._cases(bug):
            if not self._is_clean(question):
                continue
            asked += 1
            with bug.plant(device):
                reason = question.ask(device, self._oracle) or ""
            if reason:
                killer = question
                break
        seconds = time.perf_counter() - start
        if killer is None:
            return Outcome(bug.name, bug.what, None, "", False, "", asked, seconds)
        aimed = matches(str(killer.id), bug.aim)
        return Outcome(
            bug.name, bug.what, str(killer.id), _where(killer), aimed, reason, asked, seconds
        )

    @property
    def asked(self) -> int:
        """How many cases the clean backend was asked."""
        return len(self._passed) + len(self.unclean)

    def _cases(self, bug: Bug) -> list[Question]:
        """Those of its ops, and those by its aim, which come first."""
        ops = {
            name: op
            for name, op in self._ops.items()
            if matches(name, bug.ops) or may_be_of(bug.aim, name)
        }
        found = questions(ops, self._clean, level=bug.level, tracks=bug.tracks)
        chosen = [q for q in found if matches(q.id.op, bug.ops) or matches(str(q.id), bug.aim)]
        return sorted(chosen, key=lambda q: not matches(str(q.id), bug.aim))

    def _is_clean(self, question: Question) -> bool:
        """Whether the backend passes it without a bug."""
        name = str(question.id)
        if name not in self._passed and name not in self.unclean:
            reason = question.ask(self._clean, self._oracle)
            if reason is None:
                self._passed.add(name)
            else:
                self.unclean[name] = reason
        return name in self._passed


def open_device() -> Device:
    """A cpu device of its own, without the kernels that other packages add."""
    backend = backends()[_BACKEND].backend
    assert backend is not None  # or it could not have been opened
    return backend.open(0)


def chosen_bugs(pattern: str | None) -> list[Bug]:
    """The bugs whose names fit. Raises ConfigError if none does."""
    from groundup_conformance.selftest import bugs

    bugs.load()
    found = [bug for name, bug in BUGS.items() if pattern is None or matches(name, pattern)]
    if not found:
        raise ConfigError(f"no bug fits {pattern!r}, there are {', '.join(BUGS)}")
    return found


def run(bugs: Sequence[Bug], tell: Callable[[Outcome], None]) -> Report:
    """Plant every bug; `tell` hears of each as it is done."""
    start = time.perf_counter()
    trial = Trial()
    outcomes = []
    for bug in bugs:
        outcomes.append(trial.run(bug))
        tell(outcomes[-1])
    unclean = tuple(f"{name}: {reason}" for name, reason in trial.unclean.items())
    return Report(tuple(outcomes), unclean, trial.asked, time.perf_counter() - start)


def table(outcomes: Iterable[Outcome]) -> str:
    """As Markdown: bug, what it is, which case found it."""
    rows = ["| bug | what is wrong | found by |", "|---|---|---|"]
    for o in outcomes:
        found = f"`{o.killed_by}` ({o.where})" if o.killed_by else "**nothing**"
        rows.append(f"| {o.name} | {o.what} | {found} |")
    return "\n".join(rows) + "\n"


def _where(question: Question) -> str:
    if question.track is not None:
        return f"track {question.track}"
    return f"level {question.level}"

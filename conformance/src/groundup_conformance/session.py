"""A run of the suite inside pytest: which cases there are, what came of each, the exit code.

Modules of the suite say `LEVEL = 2` or `TRACK = "threads"`. A test function marked with
`@cases(generator)` runs once per `Check` that the generator gives, as its argument `check`; any
other test is one case by itself, named `module[-,function,-,parameters]`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final, TypeVar

import attrs
import pytest

from groundup.backends.api import Device
from groundup.errors import GroundupError
from groundup.ops.op import Op
from groundup.ops.third_party import all_ops
from groundup_conformance import compare, scorecard, waivers
from groundup_conformance.budgets import PROFILES, Profile
from groundup_conformance.cases import Check
from groundup_conformance.cases import Generator as Cases
from groundup_conformance.ids import CaseId
from groundup_conformance.judging import Failed, larger
from groundup_conformance.options import DEFAULT_LEVEL, Options, from_config
from groundup_conformance.running import Oracle
from groundup_conformance.scorecard import Result

INCOMPLETE: Final = 3  # exit code: cases without a result
_RESULT: Final = "groundup_conformance"  # name of the user property of reports
_COLLECTED: Final = "groundup_collected"
_MARK: Final = "__groundup_cases__"
F = TypeVar("F", bound=Callable[..., Any])


def cases(generator: Cases) -> Callable[[F], F]:
    """Mark a test function of the suite: it runs for every check of the generator."""

    def mark(function: F) -> F:
        setattr(function, _MARK, generator)
        return function

    return mark


def generator_of(function: object) -> Cases | None:
    """The generator that a test function of the suite is marked with."""
    return getattr(function, _MARK, None)


@attrs.define(eq=False)
class Ticket:
    """An item of pytest as a case of ours."""

    id: CaseId
    level: int | None
    track: str | None
    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()  # what its failure takes away from others
    ratio: float | None = None
    ulp: float | None = None
    blocked: str = ""


TICKET: Final = pytest.StashKey[Ticket]()
SESSION: Final = pytest.StashKey["Session"]()


class Record:
    """Takes the figures of one case; what the fixture `record` gives."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket

    def __call__(self, ratio: float | None = None, ulp: float | None = None) -> None:
        """Note the largest error over its budget, and in ULP; the worst of several calls counts."""
        ticket = self._ticket
        ticket.ratio = larger(ticket.ratio, ratio)
        ticket.ulp = larger(ticket.ulp, ulp)


class Session:
    """The pytest plugin of one run; its fixtures are in `fixtures`."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.results: dict[str, Result] = {}
        self.expected: set[str] = set()
        self.broken: dict[str, str] = {}  # what level 0 took away -> the case that did
        self.card: scorecard.Card | None = None
        self._start = time.perf_counter()

    # ---- set-up ----

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Open the device; whatever is wrong with the request is a usage error."""
        config.stash[SESSION] = self
        try:
            self.options: Options = from_config(config)
            self.entry = self.options.entry()
            self.device: Device = self.options.open()
            own = waivers.of_backend(self.entry.backend) if self.entry.backend else []
            path = self.options.waivers
            entries = waivers.from_file(path) if path else own
            if self.options.baseline:
                self.baseline = scorecard.load(self.options.baseline)
        except GroundupError as error:
            raise pytest.UsageError(str(error)) from error
        self.profile: Profile = PROFILES[self.options.profile or self.device.info.profile]
        self.waivers = waivers.Waivers(entries, self.profile.name)
        self.ops: dict[str, type[Op]] = dict(all_ops())
        self.narrowed = {name: op for name, op in self.ops.items() if self.options.may_run(name)}
        self.oracle = Oracle(self.profile)

    # ---- collection ----

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One item per check; those that the device cannot run are results at once."""
        generator = generator_of(metafunc.function)
        if generator is None or not self._wanted(metafunc.module):
            if generator is not None:
                metafunc.parametrize("check", [])
            return
        chosen = list(self._chosen(generator, getattr(metafunc.module, "TRACK", None)))
        metafunc.parametrize("check", chosen, ids=[str(check.id) for check in chosen])

    def _chosen(self, generator: Cases, track: str | None) -> Iterator[Check]:
        for check in generator(self.narrowed, self.device.info):
            if not self.options.selects(check.id):
                continue
            if track is None and not self._reaches(check.level):
                continue
            if check.unsupported is None:
                yield check
                continue
            level = check.level if track is None else None
            name = str(check.id)
            self.results[name] = Result(name, "unsupported", level, track, reason=check.unsupported)

    def _wanted(self, module: Any) -> bool:
        track, level = getattr(module, "TRACK", None), getattr(module, "LEVEL", None)
        if track is not None:
            return track in self.options.tracks
        return level is None or self._reaches(level)

    def _reaches(self, level: int) -> bool:
        return self.options.level is not None and level <= self.options.level

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep what is wanted; lower levels first, since they may block the others."""
        kept: list[pytest.Item] = []
        dropped: list[pytest.Item] = []
        for item in items:
            if _is_empty(item):
                continue
            ticket = item.stash[TICKET] = _ticket(item)
            wanted = self._wanted(getattr(item, "module", None))
            (kept if wanted and self.options.selects(ticket.id) else dropped).append(item)
        kept.sort(key=lambda item: (item.stash[TICKET].level is None, item.stash[TICKET].level))
        items[:] = kept
        if dropped:
            config.hook.pytest_deselected(items=dropped)
        self.expected = {str(item.stash[TICKET].id) for item in items}

    # ---- running ----

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skip what cannot mean anything since a case of level 0 failed."""
        ticket = item.stash[TICKET]
        for need in sorted(ticket.needs):
            if need in self.broken:
                ticket.blocked = f"{need}: see {self.broken[need]}"
                pytest.skip(f"blocked by {self.broken[need]}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn pytest's outcome into ours, and keep it with the report."""
        report = yield
        if report.when == "call" or report.outcome != "passed":
            ticket = item.stash[TICKET]
            result = self._result(ticket, report, call)
            if result.status == "failed" and ticket.gives:
                self.broken.update({key: str(ticket.id) for key in ticket.gives})
            report.user_properties.append((_RESULT, attrs.asdict(result)))
        return report

    def _result(
        self, ticket: Ticket, report: pytest.TestReport, call: pytest.CallInfo[None]
    ) -> Result:
        name = str(ticket.id)
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, Failed):
            ticket.ratio, ticket.ulp = error.figures.ratio, error.figures.ulp
            report.longrepr = self._text(name, str(error))
        blank = Result(
            name, "passed", ticket.level, ticket.track, ticket.ratio, ticket.ulp, report.duration
        )
        if report.outcome == "skipped":
            status: scorecard.Status = "blocked" if ticket.blocked else "unsupported"
            return attrs.evolve(blank, status=status, reason=ticket.blocked or str(error))
        waiver = self.waivers.find(name)
        if report.outcome == "failed":
            if waiver is None:
                return attrs.evolve(blank, status="failed", reason=_first_line(error))
            report.outcome = "skipped"
            report.wasxfail = waiver.reason
            return attrs.evolve(blank, status="waived", reason=waiver.reason)
        if waiver is None:
            return blank
        report.outcome = "failed"
        reason = f"passes, though it is waived ({waiver.reason}): remove the waiver"
        report.longrepr = f"{name}\n{reason}"
        return attrs.evolve(blank, status="failed", reason=reason)

    def _text(self, name: str, text: str) -> str:
        where = f"{self.options.device}, profile {self.profile.name}"
        repro = f"groundup conformance repro '{name}' --device {self.options.device}"
        return f"{name} on {where}\n{text}\n{repro}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect results; here, so that it also works for reports from other processes."""
        for key, value in report.user_properties:
            if key == _RESULT and isinstance(value, dict):
                result = Result(**value)
                before = self.results.get(result.id)
                if before is None or before.status != "failed":
                    self.results[result.id] = result

    # ---- the end ----

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Make the scorecard, and see that no case is without a result."""
        if self.config.option.collectonly:
            return
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput[_COLLECTED] = self._collected()
            return
        for result in self.results.values():  # a waiver was found where the case ran
            self.waivers.find(result.id)
        missing = sorted(self.expected - self.results.keys())
        problems = self.waivers.complaints(complete=self._complete())
        if missing:
            problems.append(f"{len(missing)} cases have no result, the first is {missing[0]}")
        if not self.results:
            problems.append("no case is selected")
        self.card = scorecard.make(self._run(problems), self.results.values())
        if self.options.baseline:
            worse = compare.worse(self.baseline, self.card, ratchet=True)
            problems += [str(change) for change in worse]
            self.card["problems"] = problems
        self._write()
        failed = self.card["totals"]["failed"] or problems
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            exitstatus = pytest.ExitCode.TESTS_FAILED if failed else pytest.ExitCode.OK
        session.exitstatus = INCOMPLETE if missing and exitstatus != 2 else exitstatus

    def _collected(self) -> dict[str, Any]:
        """What the process that makes the scorecard does not know if others run the cases."""
        rest = [r for name, r in self.results.items() if name not in self.expected]
        return {"expected": sorted(self.expected), "results": [attrs.asdict(r) for r in rest]}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A process of pytest-xdist has ended: all collect the same."""
        found = getattr(node, "workeroutput", {}).get(_COLLECTED)
        if found:
            self.expected = set(found["expected"])
            for each in found["results"]:
                self.results.setdefault(each["id"], Result(**each))

    def _complete(self) -> bool:
        whole = self.options.level is not None and self.options.level >= DEFAULT_LEVEL
        return whole and not self.options.filters

    def _run(self, problems: list[str]) -> scorecard.Run:
        info, options = self.device.info, self.options
        return scorecard.Run(
            backend=options.backend,
            distribution=_with_version(self.entry.distribution),
            device=f"{info.name}: {info.description}",
            profile=self.profile.name,
            level=options.level,
            tracks=sorted(options.tracks),
            selection=options.filters,
            families={name: op.family for name, op in self.ops.items()},
            ops=scorecard.fingerprint(self.ops),
            seconds=time.perf_counter() - self._start,
            problems=problems,
        )

    def _write(self) -> None:
        from groundup_conformance.report import html

        assert self.card is not None
        if self.options.json:
            scorecard.write(self.card, self.options.json)
        if self.options.html:
            html.write(self.card, self.options.html)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The scorecard as a table."""
        from groundup_conformance.report import terminal

        if self.card is not None:
            terminalreporter.section("scorecard")
            terminalreporter.write_line(terminal.render(self.card))


def _ticket(item: pytest.Item) -> Ticket:
    """What an item of the suite is called, and where it belongs."""
    module = getattr(item, "module", None)
    level, track = getattr(module, "LEVEL", None), getattr(module, "TRACK", None)
    callspec = getattr(item, "callspec", None)
    check = callspec.params.get("check") if callspec else None
    if isinstance(check, Check):
        level = check.level if track is None else None
        return Ticket(check.id, level, track, check.needs, check.gives)
    name = getattr(module, "__name__", "suite").rpartition(".")[2].removeprefix("test_")
    function = getattr(item, "originalname", item.name).removeprefix("test_")
    return Ticket(CaseId(name, "-", function, "-", callspec.id if callspec else "-"), level, track)


def _is_empty(item: pytest.Item) -> bool:
    """Whether it only stands for a generator none of whose cases is wanted."""
    function = getattr(item, "function", None)
    if not hasattr(function, _MARK):
        return False
    callspec = getattr(item, "callspec", None)
    return callspec is None or not isinstance(callspec.params.get("check"), Check)


def _first_line(error: BaseException | None) -> str:
    text = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


def _with_version(distribution: str) -> str:
    from importlib import metadata

    try:
        return f"{distribution} {metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        return distribution

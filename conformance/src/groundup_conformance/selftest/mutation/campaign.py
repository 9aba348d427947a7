"""A campaign of mutants against levels 0 to 2, and what is known of those that survive."""

from __future__ import annotations

import importlib
import json
import pkgutil
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs

from groundup.backends.devices import device_for
from groundup.errors import ConfigError
from groundup.ops.third_party import all_ops
from groundup_conformance.budgets import PROFILES
from groundup_conformance.ids import matches
from groundup_conformance.running import Oracle
from groundup_conformance.selftest.mutation import living
from groundup_conformance.selftest.mutation.operators import Mutant, mutants
from groundup_conformance.selftest.mutation.watching import Seen, watch
from groundup_conformance.selftest.questions import Question, questions
from groundup_conformance.selftest.trial import open_device

SCHEMA: Final = 1
LEVEL: Final = 2
ENOUGH: Final = 0.95  # of the mutants that compute something else must be killed
_PACKAGE: Final = "groundup_cpu_ref"
_BESIDE: Final = ("rows", "blas")  # modules of the package that kernels are made of
_LEAST_TIME: Final = 20.0  # seconds
_TIMES: Final = 3.0  # what the cases take without a mutant, so often
_SURVIVED: Final = ""


@attrs.frozen
class Request:
    """Which mutants: of functions that fit `kernels`; `limit` of them, drawn by `seed`.

    Those that are known to compute the same are left out, unless `equal`.
    """

    kernels: str | None = None
    limit: int | None = None
    seed: int = 0
    equal: bool = False


@attrs.frozen
class Fate:
    """What came of a mutant: the case that killed it, "timeout", "crash", or nothing."""

    mutant: Mutant
    killed_by: str
    asked: int  # cases that run its line
    known: str = ""  # why it had to survive, if it did

    def __str__(self) -> str:
        if self.killed_by:
            return f"{self.mutant}\n  killed by {self.killed_by}"
        why = self.known or "not explained"
        return f"SURVIVES {self.mutant}\n  {self.asked} cases run it; {why}"


@attrs.frozen
class Report:
    """What came of all."""

    fates: tuple[Fate, ...]
    left_out: int  # mutants that are known to compute the same
    unclean: tuple[str, ...]
    seconds: float

    @property
    def survivors(self) -> list[Fate]:
        """Those that nothing killed."""
        return [fate for fate in self.fates if not fate.killed_by]

    @property
    def explained(self) -> int:
        """How many survivors are known to compute the same."""
        return sum(bool(fate.known) for fate in self.survivors)

    @property
    def score(self) -> float:
        """The share that was killed, of those that do not compute the same."""
        killed = len(self.fates) - len(self.survivors)
        return killed / max(len(self.fates) - self.explained, 1)

    @property
    def ok(self) -> bool:
        """Whether enough were killed, by cases that a clean backend passes."""
        return self.score >= ENOUGH and not self.unclean

    def summary(self) -> str:
        """The survivors, then the figures."""
        lines = [f"fails without a mutant: {problem}" for problem in self.unclean]
        lines += [str(fate) for fate in self.survivors]
        killed = len(self.fates) - len(self.survivors)
        lines.append(f"{killed} of {len(self.fates)} mutants killed, in {self.seconds:.0f} s")
        if self.explained:
            lines.append(f"{self.explained} of the survivors are known to compute the same")
        if self.left_out:
            lines.append(f"{self.left_out} others, known to compute the same, were left out")
        lines.append(f"{self.score:.1%} of those that compute something else are killed")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "schema": SCHEMA,
            "planted": len(self.fates),
            "killed": len(self.fates) - len(self.survivors),
            "explained": self.explained,
            "left_out": self.left_out,
            "score": round(self.score, 4),
            "unclean": list(self.unclean),
            "seconds": round(self.seconds, 1),
            "mutants": [attrs.asdict(fate) for fate in self.fates],
        }


def run(request: Request, tell: Callable[[str], object]) -> Report:
    """Every mutant against the cases that run its line, until one fails. Raises ConfigError."""
    start = time.perf_counter()
    device_for("cpu")  # says what is wrong if it is not installed
    loaded = dict(modules())
    wanted, left_out = _chosen(request, loaded)
    files = {mutant.file for mutant in wanted}
    asked = _questions(files)
    tell(f"{len(wanted)} mutants; {len(asked)} cases without any, to see which lines they run")
    device = open_device()
    oracle = Oracle(PROFILES[device.info.profile])
    seen = watch(asked, device, oracle, {str(loaded[file].__file__) for file in files})
    tell(f"{sum(seen.seconds):.0f} s; {len(seen.failed)} fail")
    war = War(asked, seen, loaded, oracle)
    fates = tuple(war.fight(wanted, tell))
    unclean = tuple(f"{name}: {reason}" for name, reason in seen.failed.items())
    return Report(fates, left_out, unclean, time.perf_counter() - start)


class War:
    """Mutants, some at a time, each in a process of its own."""

    def __init__(
        self, asked: Sequence[Question], seen: Seen, modules: dict[str, ModuleType], oracle: Oracle
    ) -> None:
        self._questions, self._seen, self._oracle = asked, seen, oracle
        self._modules = modules
        self._known = known()

    def fight(self, wanted: Sequence[Mutant], tell: Callable[[str], object]) -> Iterator[Fate]:
        """Their fates, as they come."""
        waiting = list(reversed(wanted))
        alive: dict[int, tuple[living.Life, Mutant, int]] = {}
        done = 0
        while waiting or alive:
            while waiting and len(alive) < living.jobs():
                mutant = waiting.pop()
                cases = self._seen.cases(mutant, str(self._modules[mutant.file].__file__))
                life = living.begin(partial(self._live, mutant, cases), self._patience(cases))
                alive[life.pid] = (life, mutant, len(cases))
            for life in living.wait([life for life, _, _ in alive.values()]):
                _, mutant, count = alive.pop(life.pid)
                fate = self._fate(mutant, life.end(), count)
                done += 1
                if not fate.killed_by:
                    tell(f"[{done}/{len(wanted)}] {fate}")
                elif done % 100 == 0:
                    tell(f"[{done}/{len(wanted)}]")
                yield fate

    def _live(self, mutant: Mutant, cases: Sequence[int]) -> str:
        """In the mutant's process: the first case that fails."""
        module = self._modules[mutant.file]
        try:
            living.become(module, mutant.number)
            device = open_device()
        except Exception as error:
            return f"import: {type(error).__name__}"
        for case in cases:
            if self._questions[case].ask(device, self._oracle) is not None:
                return str(self._questions[case].id)
        return _SURVIVED

    def _patience(self, cases: Sequence[int]) -> float:
        return _LEAST_TIME + _TIMES * sum(self._seen.seconds[case] for case in cases)

    def _fate(self, mutant: Mutant, killed_by: str, count: int) -> Fate:
        why = "" if killed_by else self._known.get(mutant.key, "")
        return Fate(mutant, killed_by, count, why)


def known() -> dict[str, str]:
    """Mutants that cannot be killed, and why: equal in every result, or only slower."""
    file = resources.files(__package__) / "survivors.json"
    groups: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
    return {name: reason for reason, names in groups.items() for name in names}


def modules() -> Iterator[tuple[str, ModuleType]]:
    """The modules that are mutated, by their files' names within the package."""
    kernels = importlib.import_module(f"{_PACKAGE}.kernels")
    names = [f"kernels.{found.name}" for found in pkgutil.iter_modules(kernels.__path__)]
    for name in (*names, *_BESIDE):
        module = importlib.import_module(f"{_PACKAGE}.{name}")
        yield f"{name.replace('.', '/')}.py", module


def _chosen(request: Request, modules: Mapping[str, ModuleType]) -> tuple[list[Mutant], int]:
    """The mutants to plant, and how many of the kernels asked for are left out."""
    if request.limit is not None and request.limit < 1:
        raise ConfigError(f"limit must be at least 1, got {request.limit}")
    found = []
    for file, module in modules.items():
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        stem = Path(file).stem
        found += [
            mutant
            for mutant in mutants(source, file)
            if request.kernels is None or matches(f"{stem}.{mutant.where}", request.kernels)
        ]
    equal = known()
    chosen = [mutant for mutant in found if request.equal or mutant.key not in equal]
    if not chosen:
        raise ConfigError(
            f"no mutant of a kernel that fits {request.kernels!r}",
            hint=f"the form is file.function, the files are {', '.join(modules)}",
        )
    left_out = len(found) - len(chosen)
    if request.limit is None or request.limit >= len(chosen):
        return chosen, left_out
    return random.Random(request.seed).sample(chosen, request.limit), left_out


def _questions(files: set[str]) -> list[Question]:
    """The cases of levels 0 to 2 of the ops whose kernels are in the files: of all, if need be."""
    from groundup_cpu_ref.native import NATIVE

    device = open_device()
    ops = dict(all_ops())
    if not files & {f"{name}.py" for name in _BESIDE}:
        owners = {f"{_PACKAGE}.{file.removesuffix('.py').replace('/', '.')}" for file in files}
        served = {n for n, found in NATIVE.items() if found.function.__module__ in owners}
        ops = {name: op for name, op in ops.items() if name in served}
    return questions(ops, device, level=LEVEL)

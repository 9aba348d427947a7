"""Looking for a program that a device gets wrong, and for the smallest one that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import attrs
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample

from groundup.backends.api import Device
from groundup.errors import GroundupError
from groundup.files import atomic_write
from groundup_conformance.budgets import Profile
from groundup_conformance.fuzz.judging import check
from groundup_conformance.fuzz.programs import Program
from groundup_conformance.fuzz.strategies import programs
from groundup_conformance.running import Failed, Figures


@attrs.frozen
class Find:
    """A program that goes wrong, and how."""

    program: Program
    problem: str


@attrs.define
class Tried:
    """How many programs were run, and the worst figures among those that were right."""

    count: int = 0
    figures: Figures = attrs.field(factory=Figures)


def search(
    device: Device, profile: Profile, *, examples: int, seed: int, tried: Tried | None = None
) -> Find | None:
    """Try so many programs; the smallest that fails, None if none does. A seed always tries the
    same ones.
    """
    tried = tried or Tried()

    def fails(program: Program) -> bool:
        tried.count += 1
        problem = trouble(program, device, profile, tried)
        return problem is not None

    chosen = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    try:
        smallest = find(programs(device.info), fails, settings=chosen, random=Random(seed))
    except NoSuchExample:
        return None
    smallest = reduced(smallest, fails)
    return Find(smallest, trouble(smallest, device, profile, Tried()) or "it fails now and then")


def reduced(program: Program, fails: Callable[[Program], bool]) -> Program:
    """The program without steps and inputs that it fails without, too.

    Hypothesis makes values simple, but it does not see that a step passes on what it got.
    """
    for candidate in shorter(program):
        if fails(candidate):
            return reduced(candidate, fails)
    return program


def shorter(program: Program) -> Iterator[Program]:
    """The programs with one step less, whose result is its first operand, or one input less."""
    for number in reversed(range(len(program.steps))):
        made = program.without_step(number)
        if made is not None:
            yield made
    for number in reversed(range(len(program.inputs))):
        made = program.without_input(number)
        if made is not None:
            yield made


def trouble(program: Program, device: Device, profile: Profile, tried: Tried) -> str | None:
    """What goes wrong in a program, None if nothing does."""
    try:
        tried.figures = tried.figures.worst(check(program, device, profile))
    except Failed as error:
        return str(error)
    except GroundupError as error:
        return f"{type(error).__name__}: {error}"
    return None


def keep(found: Find, path: Path) -> None:
    """Append a find to a file of programs."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    with atomic_write(path) as temporary:
        temporary.write_text(f"{before}{found.program.to_json()}\n", encoding="utf-8")

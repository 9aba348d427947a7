"""Track `fuzz`: programs made at random, and those that once went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from groundup.backends.api import Device, DeviceInfo
from groundup_conformance.budgets import Profile
from groundup_conformance.cases import Check, Ops
from groundup_conformance.fuzz import judging, programs
from groundup_conformance.fuzz.programs import Program
from groundup_conformance.ids import CaseId
from groundup_conformance.running import Failed
from groundup_conformance.session import SESSION, Record, cases

TRACK = "fuzz"
FINDS = "groundup-fuzz.jsonl"  # in the current folder
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def known(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """The corpus: a case per line."""
    for number, line in enumerate(programs.corpus()):
        program = Program.from_json(line)
        specs, _ = program.specs()
        missing = [spec.dtype for spec in specs if spec.dtype not in info.dtypes]
        reason = f"{info.name} has no {missing[0]}" if missing else None
        name = CaseId("fuzz", "-", f"known{number}", "given", "corpus")
        yield Check(name, 0, "fuzz", unsupported=reason, payload=program)


@cases(known)
def test_corpus(check: Check, device: Device, profile: Profile, record: Record) -> None:
    """What went wrong once."""
    figures = judging.check(check.payload, device, profile)
    record(figures.ratio, figures.ulp)


def test_search(
    device: Device, profile: Profile, record: Record, pytestconfig: pytest.Config
) -> None:
    """New programs: the same ones for the same --seed and --examples."""
    from groundup_conformance.fuzz.search import Tried, keep, search

    options = pytestconfig.stash[SESSION].options
    tried = Tried()
    found = search(device, profile, examples=options.examples, seed=options.seed, tried=tried)
    record(tried.figures.ratio)
    if found is not None:
        keep(found, Path(FINDS))
        raise Failed(
            f"{found.problem}\nthe smallest program that shows it, also in {FINDS}:\n"
            f"{found.program.to_json()}"
        )

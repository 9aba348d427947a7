"""Every op, at every size, on every backend asked for."""

from __future__ import annotations

from typing import Any

import pytest

from groundup.errors import OutOfMemory, UnsupportedDtype, UnsupportedOp
from groundup_conformance.bench.checking import TooLarge
from groundup_conformance.bench.measure import measure
from groundup_conformance.bench.session import SESSION
from groundup_conformance.bench.timing import clock


@pytest.mark.benchmark(timer=clock, disable_gc=True)
def test_op(work: str, place: str, benchmark: Any, pytestconfig: pytest.Config) -> None:
    """The row is right before and after, and no better than the device can be."""
    session = pytestconfig.stash[SESSION]
    benchmark.group = work
    try:
        info = measure(session.works[work], session.places[place], benchmark)
    except (TooLarge, OutOfMemory, UnsupportedDtype, UnsupportedOp) as error:
        pytest.skip(str(error))
    session.rows.append({"group": work, **info})

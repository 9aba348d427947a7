"""Training steps, prefill and decoding of whole models."""

from __future__ import annotations

from typing import Any

import pytest

from groundup_conformance.bench.models import measure
from groundup_conformance.bench.session import SESSION
from groundup_conformance.bench.timing import clock


@pytest.mark.benchmark(timer=clock, disable_gc=True)
def test_model(task: str, place: str, benchmark: Any, pytestconfig: pytest.Config) -> None:
    """What the model computes is right before and after."""
    session = pytestconfig.stash[SESSION]
    benchmark.group = task
    info = measure(task, session.places[place], benchmark)
    session.rows.append({"group": task, **info})

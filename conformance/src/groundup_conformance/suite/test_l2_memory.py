"""Level 2: determinism and aliasing. The same bits twice, updates in place, shared inputs."""

from __future__ import annotations

import numpy as np
import pytest

import groundup
from groundup.backends.api import Device
from groundup_conformance import cases as derived
from groundup_conformance import running
from groundup_conformance.cases import Check
from groundup_conformance.running import Oracle
from groundup_conformance.session import Record, cases

LEVEL = 2
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@cases(derived.repeats)
def test_repeats(check: Check, device: Device, oracle: Oracle) -> None:
    """Bit by bit, on memory that held something else each time."""
    running.twice(check, device, oracle)


@cases(derived.aliases)
def test_aliases(check: Check, device: Device, oracle: Oracle, record: Record) -> None:
    """In place as out of place; overlapping inputs; one tensor as several inputs."""
    run = {"in-place": running.in_place, "overlap": running.overlap, "shared": running.shared}
    figures = run[check.id.variant](check, device, oracle)
    record(figures.ratio, figures.ulp)


@pytest.mark.parametrize("step", [1, -1, 3])
def test_assignment_within_one_tensor(device: Device, step: int) -> None:
    """`x[a] = x[b]` reads all of the old values, though both lie in one buffer."""
    values = np.arange(2000, dtype=np.float32)
    x = groundup.from_numpy(values, device)
    target, source = (slice(step, None), slice(None, -step))
    if step < 0:
        target, source = slice(None, None, 1), slice(None, None, -1)
    x[target] = x[source]
    values[target] = values[source].copy()
    np.testing.assert_array_equal(x.numpy(), values)


def test_views_see_what_is_written(device: Device) -> None:
    """A view and its origin share memory, whichever is written."""
    x = groundup.from_numpy(np.zeros((3, 4), np.float32), device)
    column = x[:, 1]
    column.assign_(groundup.from_numpy(np.ones(3, np.float32), device))
    assert x.tolist() == [[0, 1, 0, 0]] * 3
    x.assign_(groundup.from_numpy(np.full((3, 4), 2, np.float32), device))
    assert column.tolist() == [2, 2, 2]

"""What tests of the suite may ask for as arguments."""

from __future__ import annotations

import pytest

from groundup.backends.api import Device
from groundup_conformance.budgets import Profile
from groundup_conformance.running import Oracle
from groundup_conformance.session import SESSION, TICKET, Record


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> Device:
    """The device under test."""
    return pytestconfig.stash[SESSION].device


@pytest.fixture(scope="session")
def backend_name(pytestconfig: pytest.Config) -> str:
    """The name of the backend under test."""
    return pytestconfig.stash[SESSION].options.backend


@pytest.fixture(scope="session")
def profile(pytestconfig: pytest.Config) -> Profile:
    """The budgets that hold."""
    return pytestconfig.stash[SESSION].profile


@pytest.fixture(scope="session")
def oracle(pytestconfig: pytest.Config) -> Oracle:
    """References under that profile."""
    return pytestconfig.stash[SESSION].oracle


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Takes the figures of the case: `record(ratio=..., ulp=...)`."""
    return Record(request.node.stash[TICKET])

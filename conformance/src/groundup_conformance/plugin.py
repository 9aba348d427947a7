"""The entry point for pytest: adds the suite's options and hooks, but only to runs of the suite.

`pytest --pyargs groundup_conformance.suite --backend cpu`, and `groundup_conformance.bench` for the
benchmarks. Other runs, of whatever project has this package installed, see nothing of it: no
option, no hook, no import.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest

_SUITE: Final = re.compile(r"groundup_conformance[./\\]suite")
_BENCH: Final = re.compile(r"groundup_conformance[./\\]bench")


def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> None:
    """Options may still be added here, and here it is known what is to be run."""
    wanted = [argument for argument in args if not argument.startswith("-")]
    if any(_SUITE.search(argument) for argument in wanted):
        from groundup_conformance import fixtures
        from groundup_conformance.options import add_options
        from groundup_conformance.session import Session

        add_options(parser)
        plugins = early_config.pluginmanager
        plugins.register(Session(early_config), "groundup_conformance_session")
        plugins.register(fixtures, "groundup_conformance_fixtures")
    elif any(_BENCH.search(argument) for argument in wanted):
        from groundup_conformance.bench.options import add_options as add_bench_options
        from groundup_conformance.bench.session import Session as BenchSession

        add_bench_options(parser)
        early_config.pluginmanager.register(BenchSession(), "groundup_bench_session")

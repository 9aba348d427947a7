"""A run of the benchmarks inside pytest: which rows there are, what becomes of them.

A test function that asks for `work` runs for every op and size, on every device, one row after the
other, so that rows of one group stand next to each other. pytest-benchmark keeps the times.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any, Final

import pytest

from groundup.backends.devices import device_for
from groundup.errors import GroundupError
from groundup.ops.third_party import all_ops
from groundup_conformance.bench import models, peers, traced
from groundup_conformance.bench.ceilings import Ceilings
from groundup_conformance.bench.measure import Place
from groundup_conformance.bench.options import Options, from_config
from groundup_conformance.bench.works import Work, main_dtypes, regimes
from groundup_conformance.cases import unsupported
from groundup_conformance.judging import Failed
from groundup_conformance.oracle import has_reference
from groundup_conformance.samples import base

SESSION: Final = pytest.StashKey["Session"]()
_MEMORY_OPS: Final = ("exact", "rounded")  # accuracy of ops that do little but move data
_LARGEST: Final = {"quick": 1 << 27, "full": 1 << 30, "models": 1 << 27}  # bytes, for ceilings


class Session:
    """The pytest plugin of one run."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.works: dict[str, Work] = {}
        self.places: dict[str, Place] = {}
        self.absent: dict[str, str] = {}  # peers that do not run, and why

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Open the devices; whatever is wrong with the request is a usage error."""
        config.stash[SESSION] = self
        try:
            self.options: Options = from_config(config)
            for name in self.options.backends:
                self.places[name] = self._place(name)
        except GroundupError as error:
            raise pytest.UsageError(str(error)) from error

    def _place(self, name: str) -> Place:
        device = device_for(name)
        effort = self.options.effort("timer" in device.info.features)
        ceilings = Ceilings(device, _LARGEST[self.options.suite])
        found = []
        for peer in self.options.peers:
            try:
                found.append(peers.find(peer, device))
            except (ImportError, GroundupError) as error:
                self.absent[f"{peer} beside {name}"] = " ".join(str(error).split())
        return Place(device, effort, ceilings, found, most=self.options.checked)

    # ---- rows ----

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One item per row."""
        if "work" in metafunc.fixturenames:
            self.works = {work.name: work for work in self._works()}
            pairs = [
                (name, place)
                for name, work in self.works.items()
                for place in self.places
                if self._runs(work, place)
            ]
            metafunc.parametrize(("work", "place"), pairs, ids=[f"{w}-{p}" for w, p in pairs])
        elif "task" in metafunc.fixturenames:
            whole = models.TASKS if self.options.suite == "models" else ()
            tasks = [name for name in whole if self.options.selects(name)]
            pairs = [(task, place) for task in tasks for place in self.places]
            metafunc.parametrize(("task", "place"), pairs, ids=[f"{w}-{p}" for w, p in pairs])

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Drop what stands for a suite that was not asked for."""
        items[:] = [item for item in items if "place" in _params(item)]

    def _works(self) -> Iterator[Work]:
        if self.options.suite == "models":
            return
        for op in all_ops().values():
            if not self.options.selects(op.name) or not has_reference(op):
                continue
            for dtype in main_dtypes(op, self.options.dtypes):
                for work in regimes(op, dtype, self.options.sizes):
                    if self._worthwhile(work):
                        yield work
        shapes = (traced.GPT_12M,) if self.options.suite == "quick" else traced.MODELS
        for model in shapes:
            yield from (w for w in traced.works(model) if self.options.selects(w.op.name))

    def _worthwhile(self, work: Work) -> bool:
        """Whether a quick run has time for it: far from the caches, only what moves data."""
        quick = self.options.suite == "quick" and work.regime == "memory"
        cheap = work.op.accuracy.kind in _MEMORY_OPS and 4 * work.cost.flops <= work.cost.bytes
        return not quick or cheap

    def _runs(self, work: Work, place: str) -> bool:
        sample = base(type(work.op), work.dtype)
        info = self.places[place].device.info
        return sample is None or unsupported(type(work.op), sample, info) is None

    # ---- results ----

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A row that does not hold says why, without a traceback."""
        report = yield
        if call.excinfo and isinstance(call.excinfo.value, Failed):
            report.longrepr = f"{item.name}\n{call.excinfo.value}"
        return report

    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        """Versions; the name of the host is nobody's business."""
        from importlib.metadata import version

        machine_info.pop("node", None)
        machine_info["groundup"] = version("groundup")
        machine_info["numpy"] = version("numpy")

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """What the rows are held against."""
        output_json["groundup"] = self.summary()

    def summary(self) -> dict[str, Any]:
        """Ceilings, peers, suite and conditions of the run."""
        return {
            "suite": self.options.suite,
            "ceilings": {name: place.ceilings.summary() for name, place in self.places.items()},
            "peers": {
                name: [peer.version for peer in place.peers] for name, place in self.places.items()
            },
            "absent": self.absent,
            "conditions": _conditions(),
        }

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Draw, if that was asked for."""
        if self.options.plot and self.rows:
            from groundup_conformance.bench import plots

            plots.draw(self.rows, self.summary(), self.options.plot)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The rows beside the ceilings."""
        from groundup_conformance.bench import report

        if self.rows:
            terminalreporter.section("roofline")
            terminalreporter.write_line(report.render(self.rows, self.summary()))
        if self.options.plot and self.rows:
            terminalreporter.write_line(f"drawn into {self.options.plot}")


def _conditions() -> dict[str, Any]:
    """What else decides how fast this process is: threads, processors, how busy they are."""
    names = ("GROUNDUP_CPU_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    found: dict[str, Any] = {name: os.environ[name] for name in names if name in os.environ}
    if hasattr(os, "sched_getaffinity"):
        found["processors"] = len(os.sched_getaffinity(0))
        found["real-time priority"] = os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)
    if hasattr(os, "getloadavg"):
        found["load average"] = round(os.getloadavg()[0], 1)
    return found


def _params(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return {k: v for k, v in callspec.params.items() if isinstance(v, str)} if callspec else {}

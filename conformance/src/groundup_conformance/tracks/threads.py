"""The track `threads`: what eight threads compute at once has the bits that one thread computes."""

from __future__ import annotations

import faulthandler
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from groundup.backends.api import Device, DeviceInfo
from groundup_conformance.cases import Check, Ops
from groundup_conformance.ids import CaseId
from groundup_conformance.memory import Placed
from groundup_conformance.running import Failed, Figures
from groundup_conformance.samples import Sample
from groundup_conformance.tracks.trying import Attempt, differentiable, first_cases
from groundup_conformance.training.models import NETWORKS
from groundup_conformance.training.runs import RECIPES, make_step, state, tensors

COUNT: Final = 8
TIMEOUT: Final = 300.0  # seconds until threads count as stuck
_STEPS: Final = 3
_REPEATS: Final = 3


@attrs.frozen(eq=False)
class Work:
    """Something to compute, by name; it uses nothing that another thread's work uses."""

    name: str
    run: Callable[[], list[bytes]]


def families(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """One case per family of ops; each runs all of the family in all threads."""
    samples: dict[str, list[Sample]] = {}
    for check in first_cases(ops, info, "threads", "threads"):
        if check.unsupported is None and check.sample is not None:
            samples.setdefault(check.sample.op.family, []).append(check.sample)
    for family, found in sorted(samples.items()):
        yield Check(CaseId(family, "-", "all", "given", "threads"), 0, "threads", payload=found)


def family(check: Check, device: Device) -> Figures:
    """The family's first cases and their gradients, each several times, on other values."""
    samples = [_varied(sample, turn) for turn in range(_REPEATS) for sample in check.payload]
    together([_of_sample(sample, device) for sample in samples])
    return Figures()


def training(device: Device) -> None:
    """Each thread trains the small networks for a few steps. Raises Failed."""
    together([_of_network(name, device) for name in NETWORKS])


def together(works: Sequence[Work], count: int = COUNT, timeout: float = TIMEOUT) -> None:
    """Compute all works in this thread, then in `count` threads at once, each in another order.

    Raises Failed if bits differ, if a thread fails, or if threads are stuck: then with the place
    where each of them is.
    """
    wanted = [work.run() for work in works]
    problems: list[str] = []
    start = threading.Barrier(count)

    def run(first: int) -> None:
        start.wait(timeout)
        for place in range(len(works)):
            index = (place + first * len(works) // count) % len(works)
            work = works[index]
            try:
                if work.run() != wanted[index]:
                    problems.append(f"{work.name} gave other bits in thread {first} of {count}")
            except Exception as error:
                problems.append(f"{work.name}: {type(error).__name__} in a thread: {error}")

    threads = [
        threading.Thread(target=run, args=(first,), name=f"suite-{first}", daemon=True)
        for first in range(count)
    ]
    for thread in threads:
        thread.start()
    _join(threads, timeout)
    if problems:
        more = f"\nand {len(problems) - 1} more" if len(problems) > 1 else ""
        raise Failed(f"{problems[0]}{more}")


def _join(threads: Sequence[threading.Thread], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    stuck = [thread.name for thread in threads if thread.is_alive()]
    if stuck:
        raise Failed(f"{', '.join(stuck)} are stuck after {timeout:.0f} s\n{_stacks()}")


def _stacks() -> str:
    """Where every thread is."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()


def _varied(sample: Sample, turn: int) -> Sample:
    """The sample with smaller floats each turn: of one value, two threads would hide each other."""

    def make() -> tuple[Placed, ...]:
        return tuple(
            attrs.evolve(x, base=(x.base * 0.75**turn).astype(x.base.dtype))
            if x.dtype.is_floating
            else x
            for x in sample.operands
        )

    return attrs.evolve(sample, make=make)


def _of_sample(sample: Sample, device: Device) -> Work:
    pulls = differentiable(sample)

    def run() -> list[bytes]:
        return Attempt.of(sample, device, pulls=pulls).bits()

    return Work(f"{sample.op.name}[{sample.dtype.name},{sample.name}]", run)


def _of_network(name: str, device: Device) -> Work:
    network, recipe = NETWORKS[name], RECIPES["adamw"]

    def run() -> list[bytes]:
        module = network.made(device)
        step = make_step(module, recipe.make(list(module.parameters())), recipe)
        for number in range(_STEPS):
            step(*tensors(network, number, device))
        return [array.tobytes() for array in state(module).values()]

    return Work(f"training {name}", run)

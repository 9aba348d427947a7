"""The track `leaks`: what is computed again and again takes no more memory each time.

Three books are kept: the bytes that the core's pool has handed out, those that the device counts as
in use, and those that Python and NumPy hold (`tracemalloc`). Garbage collection is off meanwhile:
what only it could free keeps memory of the device for longer than users expect.
"""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import attrs

import groundup as gu
from groundup import dispatch
from groundup.backends.api import Device, DeviceInfo
from groundup.graph import Intercept
from groundup.ops.op import Op
from groundup.tensor import Tensor
from groundup_conformance.cases import Check, Ops
from groundup_conformance.running import Failed, Figures
from groundup_conformance.tracks.trying import Attempt, differentiable, first_cases
from groundup_conformance.training.models import NETWORKS
from groundup_conformance.training.runs import RECIPES, make_step, tensors

REPEATS: Final = 50
STEPS: Final = 20
_WARM: Final = 10  # caches fill
_WINDOWS: Final = 8  # measurements, each of so many calls; a leak shows in all of them
_LEAST: Final = 16  # bytes per call; no Python object is smaller


@attrs.frozen
class Books:
    """Bytes in use, as three parties count them, and how many objects only the collector frees."""

    pool: int
    device: int  # 0 if it does not count
    host: int
    garbage: int

    @classmethod
    def now(cls, device: Device, counts: bool) -> Books:
        """As they stand. Collecting also empties the lists of unused objects that Python keeps."""
        device.synchronize()
        in_use = device.pool.in_use, device.memory().in_use if counts else 0
        garbage = gc.collect()
        return cls(*in_use, tracemalloc.get_traced_memory()[0], garbage)


def ops(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Every op with its gradient, inputs and results."""
    yield from first_cases(ops, info, "leaks", "leak")


def op(check: Check, device: Device) -> Figures:
    """From the host and back, again and again."""
    sample = check.sample
    assert sample is not None
    pulls = differentiable(sample)
    flat(lambda: Attempt.of(sample, device, pulls=pulls).bits(), device)
    return Figures()


def training(network: str, device: Device) -> None:
    """Steps of training after the first few. Raises Failed."""
    made, recipe = NETWORKS[network], RECIPES["adamw"]
    module = made.made(device)
    step = make_step(module, recipe.make(list(module.parameters())), recipe)
    batches = [tensors(made, number, device) for number in range(2)]

    def call() -> None:
        for batch in batches:
            step(*batch)

    flat(call, device, STEPS // 2)


def refused(device: Device) -> None:
    """Calls that are refused, whose errors keep nothing. Raises Failed."""
    x = gu.ones(300, 7, device=device)

    def call() -> None:
        try:
            (x * 2) @ x
        except gu.errors.ShapeError:
            return
        raise Failed("(300, 7) @ (300, 7) was accepted")

    flat(call, device)


def forgotten(network: str, device: Device) -> None:
    """Every tensor of a step is gone when the step is. Raises Failed."""
    made, recipe = NETWORKS[network], RECIPES["adamw"]
    module = made.made(device)
    step = make_step(module, recipe.make(list(module.parameters())), recipe)
    batch = tensors(made, 0, device)
    step(*batch)  # the optimizer's state begins to exist
    witness = Witness()
    with collector_off(), witness:
        step(*batch)
    if witness.alive():
        raise Failed(
            f"{len(witness.alive())} of {len(witness.seen)} tensors outlive their step, among "
            f"them results of {', '.join(sorted(set(witness.alive())))}"
        )


class Witness(Intercept):
    """While active, notes every result without keeping it."""

    def __init__(self) -> None:
        super().__init__(self._note)
        self.seen: list[tuple[str, weakref.ref[Tensor]]] = []

    def _note(self, op: Op, inputs: tuple[Tensor, ...], device: Device | None) -> Any:
        results = dispatch.apply(op, inputs, device)
        for result in results if isinstance(results, tuple) else (results,):
            self.seen.append((op.name, weakref.ref(result)))
        return results

    def alive(self) -> list[str]:
        """The ops whose results still exist, once per result."""
        return [name for name, found in self.seen if found() is not None]


def flat(call: Callable[[], object], device: Device, repeats: int = REPEATS) -> None:
    """Raises Failed if memory, or garbage, grows each time that `call` is repeated.

    Caches may still be filling; what is flat once is no leak.
    """
    counts = counts_bytes(device)
    problem = None
    for _ in range(_WARM):
        call()
    with collector_off(), traced():
        for _ in range(_WINDOWS):
            problem = _problem(_growth(call, device, repeats, counts), repeats)
            if problem is None:
                return
    raise Failed(f"{problem}, in each of {_WINDOWS} times {repeats} calls")


def _problem(growth: Books, repeats: int) -> str | None:
    for name in ("pool", "device", "host"):
        each = getattr(growth, name) / repeats
        if each >= _LEAST:
            return f"{each:,.0f} bytes per call are never given back ({name})"
    if growth.garbage >= repeats:
        return f"{growth.garbage / repeats:.0f} objects per call are garbage in cycles"
    return None


def _growth(call: Callable[[], object], device: Device, repeats: int, counts: bool) -> Books:
    before = Books.now(device, counts)
    for _ in range(repeats):
        call()
    after = Books.now(device, counts)
    return Books(
        after.pool - before.pool,
        after.device - before.device,
        after.host - before.host,
        after.garbage,
    )


def counts_bytes(device: Device) -> bool:
    """Whether the device's own figure follows a tensor exactly; a process's resident memory does
    not.
    """
    size = 1 << 22
    before = device.memory().in_use
    x = gu.zeros(size // 4, device=device)
    during = device.memory().in_use
    del x
    return during - before >= size and device.memory().in_use == before


@contextmanager
def traced() -> Iterator[None]:
    """Python's memory is counted."""
    outer = tracemalloc.is_tracing()
    if not outer:
        tracemalloc.start()
    try:
        yield
    finally:
        if not outer:
            tracemalloc.stop()


@contextmanager
def collector_off() -> Iterator[None]:
    """Only references count. What lives by now is not looked at, so that collecting is quick."""
    gc.collect()
    gc.freeze()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()

"""The track `threads` passes what is right and finds shared scratch, errors, stuck threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

import groundup as gu
from groundup.ops.third_party import all_ops
from groundup_conformance.running import Failed
from groundup_conformance.tracks import threads
from groundup_conformance.tracks.threads import Work, together

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
Computed = Callable[[], list[bytes]]


def squares(offset: int, scratch: Callable[[], list[int]]) -> Computed:
    """A sum of squares by way of scratch memory."""

    def run() -> list[bytes]:
        memory = scratch()
        for i in range(500):
            memory[i] = (i + offset) ** 2
        turn.set()
        turn.wait(1)
        return [sum(memory).to_bytes(8, "little")]

    turn = threading.Event()
    return run


def test_a_family_of_the_cpu_passes() -> None:
    device = gu.device_for("cpu")
    checks = {c.id.op: c for c in threads.families(all_ops(), device.info)}
    assert {"attention", "elementwise", "optimizer", "random"} <= set(checks)
    threads.family(checks["normalization"], device)


def test_memory_of_their_own_passes() -> None:
    together([Work(f"{n}", squares(n, lambda: [0] * 500)) for n in range(4)])


def test_shared_scratch_is_found() -> None:
    """What one thread leaves there, another reads: here for certain, by a gate between them."""
    scratch = [0]
    gate = threading.Barrier(2)
    alone = True

    def work(value: int) -> Computed:
        def run() -> list[bytes]:
            scratch[0] = value
            if not alone:
                gate.wait(10)  # both have written
            found = scratch[0]
            if not alone:
                gate.wait(10)  # both have read
            return [bytes([found])]

        return run

    works = [Work("one", work(1)), Work("two", work(2))]
    original = threading.Barrier

    def begins(count: int) -> threading.Barrier:
        nonlocal alone
        alone = False  # the serial part is done
        return original(count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads.threading, "Barrier", begins)
        with pytest.raises(Failed, match=r"gave other bits in thread . of 2"):
            together(works, count=2)


def test_an_error_in_a_thread_is_found() -> None:
    def run() -> list[bytes]:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("no device in this thread")
        return []

    with pytest.raises(Failed, match=r"one: ValueError in a thread: no device.*\nand 7 more"):
        together([Work("one", run)])


def test_threads_that_are_stuck_are_shown_where_they_are() -> None:
    release = threading.Event()

    def waits_for_ever() -> list[bytes]:
        if threading.current_thread() is not threading.main_thread():
            release.wait()
        return []

    try:
        with pytest.raises(Failed) as caught:
            together([Work("stuck", waits_for_ever)], count=2, timeout=0.2)
    finally:
        release.set()
    assert "suite-0, suite-1 are stuck" in str(caught.value)
    assert "in waits_for_ever" in str(caught.value)


def test_training_in_threads_passes_on_the_cpu() -> None:
    threads.training(gu.device_for("cpu"))
    assert np.isfinite(gu.ones(2, device="cpu").numpy()).all()

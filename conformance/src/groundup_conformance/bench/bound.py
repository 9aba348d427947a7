"""A work on a device, several times: rotated inputs, poisoned outputs, launches ready to repeat.

Three sets of operands with different values, each with results of its own, so that no kernel is
timed on data that it has just seen, and none can answer from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import attrs
import numpy as np

from groundup import dispatch
from groundup.backends.api import Device, Launch, View
from groundup.layout import Layout, Spec
from groundup.tensor import Tensor
from groundup_conformance.bench.drawing import draw
from groundup_conformance.bench.works import Work
from groundup_conformance.budgets.units import Array
from groundup_conformance.memory import Placed, poison, read
from groundup_conformance.running import apply

SETS: Final = 3


@attrs.define(eq=False)
class Bound:
    """One set: host arrays, tensors on the device, the results and the launches that make them."""

    arrays: list[Array]
    tensors: list[Tensor]
    results: tuple[Tensor, ...]
    launches: list[Launch]

    def outputs(self) -> list[Array]:
        """What the results hold now."""
        return [read(y) for y in self.results]


def bind(work: Work, device: Device, sets: int = SETS) -> list[Bound]:
    """The work bound on the device, and run once. Raises what the op raises there."""
    bound = []
    for number in range(sets):
        placed = draw(work, 1000 * number + 17)
        tensors = [put(x, device) for x in placed]
        with launches_of(device) as launches:
            results = apply(work.op, tensors, device)
        bound.append(Bound([x.array for x in placed], tensors, results, launches))
    device.synchronize()
    return bound


def put(operand: Placed, device: Device) -> Tensor:
    """A tensor on the device, in the operand's layout."""
    root = device.empty(Layout.contiguous(Spec((operand.base.size,), operand.dtype)))
    device.write(root, operand.base)
    offset = operand.offset * device.info.itemsize(operand.dtype)
    return dispatch.make(dispatch.derive(root, operand.layout, offset, device), device, None, 0)


@contextmanager
def launches_of(device: Device) -> Iterator[list[Launch]]:
    """Every launch that the core makes inside, compositions and copies included; it still runs."""
    found: list[Launch] = []

    def keep(launch: Launch) -> None:
        found.append(launch)
        launch()

    before = device.timer
    device.timer = keep
    try:
        yield found
    finally:
        device.timer = before


def spoil(bound: Sequence[Bound], device: Device, kind: int) -> None:
    """Fill all results with poison, so that an element that is not written shows."""
    for each in bound:
        for result in each.results:
            view = _whole(result)
            device.write(view, poison(view.layout.dtype, view.layout.size, kind))


def run(bound: Sequence[Bound], device: Device) -> None:
    """Every launch once."""
    for each in bound:
        for launch in each.launches:
            launch()
    device.synchronize()


class Together:
    """Several launches as one, for a timer that takes launches."""

    def __init__(self, launches: Sequence[Launch], replay: Callable[[], object]) -> None:
        self._launches = tuple(launches)
        self._replay = replay

    def __call__(self) -> None:
        """All of them, in order."""
        self._replay()

    def describe(self) -> dict[str, object]:
        """How many there are."""
        return {"kernel": "together", "launches": len(self._launches)}


def _whole(result: Tensor) -> View:
    """The flat memory of a result: results are row-major."""
    view = result._view
    flat = Layout.contiguous(Spec((view.layout.size,), view.layout.dtype))
    return dispatch.derive(view, flat, 0, result._device)


def same_bits(one: Sequence[Array], two: Sequence[Array]) -> bool:
    """Whether results are equal bit by bit."""
    return all(
        a.shape == b.shape and np.array_equal(_bytes(a), _bytes(b))
        for a, b in zip(one, two, strict=True)
    )


def _bytes(array: Array) -> Any:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)

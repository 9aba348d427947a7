"""fused: the functions of its body, in order, on blocks that stay in cache.

Each step is the very function that the op alone would run, on the same numbers: so are the bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, Final, TypeAlias

import attrs
import numpy as np

from groundup.backends.api import Declined, Launch, View
from groundup.layout import Layout, Spec
from groundup.ops.fusion import Fused, Place, Step, number_in
from groundup.shapes import Shape
from groundup_cpu_ref import threads
from groundup_cpu_ref.native import NATIVE, Array, BoundLaunch, CpuKernel, Native, Run, specialise
from groundup_cpu_ref.native import _quiet as quiet

_BLOCK: Final = 32768  # elements of a block, see kernels/activation.py
_LINE: Final = 64  # bytes of a cache line
_GRAIN: Final = 65536  # elements that are worth a thread
Call: TypeAlias = Callable[[], object]


@attrs.frozen(eq=False)
class _Part:
    """One step on a block: its function, its operands, and the scratch slot of its result."""

    run: Run
    operands: Sequence[Place | Array]
    dtype: np.dtype[Any]
    slot: int | None  # None: the output


class FusedKernel(CpuKernel):
    """Binds every step on every block once. Each thread has scratch memory of its own."""

    def __init__(self, op: Fused, parts: Sequence[_Part], slots: int, size: int) -> None:
        super().__init__(_unused, frozenset(op.fields), _in_place(op))
        self.parts, self.slots = parts, slots
        width = max(part.dtype.itemsize for part in parts)
        self.slot_bytes = -(-min(size, _BLOCK) * width // _LINE) * _LINE
        self.pieces = max(1, min(threads.THREADS, size // _GRAIN))
        self.workspace = self.pieces * slots * self.slot_bytes

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """A launch is a list of calls for each thread."""
        arrays = [view.native for view in (*inputs, *outputs)]
        slots = self._slots(workspace)
        blocks = list(_blocks(arrays)) if arrays[-1].size else []
        count = min(self.pieces, len(blocks))
        bounds = [len(blocks) * i // max(count, 1) for i in range(count + 1)]
        pieces = [
            [call for block in blocks[bounds[i] : bounds[i + 1]] for call in self._calls(block, s)]
            for i, s in zip(range(count), slots, strict=False)
        ]

        def run(start: int, stop: int) -> None:
            for piece in pieces[start:stop]:
                fused(piece)

        if count > 1:
            return BoundLaunch(quiet.run, partial(threads.parallel, run, count, 1))
        return BoundLaunch(quiet.run, partial(fused, pieces[0] if pieces else []))

    def launch(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> None:
        """As `bind`, and run once."""
        self.bind(inputs, outputs, workspace)()

    def _slots(self, workspace: View | None) -> Array:
        """Scratch blocks as bytes: (threads, slots, bytes)."""
        shape = (self.pieces, self.slots, self.slot_bytes)
        if workspace is None:
            return np.empty((self.pieces, 0, 0), np.uint8)
        memory: Array = workspace.native.reshape(-1).view(np.uint8)
        return memory[: self.workspace].reshape(shape)

    def _calls(self, block: Sequence[Array], slots: Array) -> Iterator[Call]:
        """The steps on one block.

        What lies in one slot with one dtype is one array: NumPy takes as long as for a small call
        to find out that two arrays in the same place overlap in no other way.
        """
        *inputs, out = block
        scratch: dict[tuple[int, Any], Array] = {}
        results: list[Array] = []
        for part in self.parts:
            given = [self._operand(place, part, inputs, results) for place in part.operands]
            target = out
            if part.slot is not None:
                key = (part.slot, part.dtype)
                if key not in scratch:
                    scratch[key] = np.ndarray(out.shape, part.dtype, slots[part.slot])
                target = scratch[key]
            results.append(target)
            yield partial(part.run, *given, target)

    @staticmethod
    def _operand(
        place: Place | Array, part: _Part, inputs: Sequence[Array], results: Sequence[Array]
    ) -> Array:
        if isinstance(place, int):
            return inputs[place] if place >= 0 else results[~place]
        assert isinstance(place, np.ndarray)
        # Functions of ours may go by the shape of any operand; NumPy's know numbers.
        return place if isinstance(part.run, np.ufunc) else np.broadcast_to(place, inputs[0].shape)


def _make(op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> CpuKernel | Declined:
    """The kernel, unless a step has none."""
    size = outputs[0].size
    specs = [Spec((min(size, _BLOCK),), layout.dtype) for layout in inputs]
    results = op.results(*specs)
    missing = [step.op for step in op.steps if step.op.name not in NATIVE]
    if missing:
        return Declined(f"no kernel for {missing[0]!r}")
    slots, count = _assigned(op, results)
    parts = []
    for step, result, slot in zip(op.steps, results, slots, strict=True):
        given = op.operands(step, specs, results)
        kernel = _kernel(step, given, result)
        if isinstance(kernel, Declined):
            return kernel
        operands = [
            number_in(place[0], spec.dtype) if isinstance(place, tuple) else place
            for place, spec in zip(step.operands, given, strict=True)
        ]
        parts.append(_Part(kernel.run, operands, result.dtype.numpy, slot))
    return FusedKernel(op, parts, count, size)


def _kernel(step: Step, given: Sequence[Spec], result: Spec) -> CpuKernel | Declined:
    found = NATIVE[step.op.name]
    if not set(step.op.nondefault()) <= found.params:
        return Declined(f"no kernel for {step.op!r}")
    layouts = [Layout.contiguous(spec) for spec in given]
    return specialise(step.op, found, layouts, [Layout.contiguous(result)])


def _assigned(op: Fused, results: Sequence[Spec]) -> tuple[list[int | None], int]:
    """The scratch slot of each step, None for the output, and how many there are.

    A ufunc may write over what it reads, other functions read it again afterwards. The output is
    written by the last step alone, since it may lie in an input's memory.
    """
    last = {place: i for i, step in enumerate(op.steps) for place in step.operands}
    slots: list[int | None] = []
    free: list[int] = []
    count = 0
    for number, step in enumerate(op.steps[:-1]):
        done = {~p for p in step.operands if isinstance(p, int) and p < 0 and last[p] == number}
        width = results[number].dtype.itemsize
        over = {i for i in done if _is_ufunc(step) and results[i].dtype.itemsize == width}
        free += [slot for i in over if (slot := slots[i]) is not None]
        if not free:
            free.append(count)
            count += 1
        slots.append(free.pop())
        free += [slot for i in done - over if (slot := slots[i]) is not None]
    return [*slots, None], count


def _is_ufunc(step: Step) -> bool:
    return isinstance(NATIVE[step.op.name].function, np.ufunc)


def _in_place(op: Fused) -> dict[int, int]:
    """Which input the output may overwrite: none that the last step reads more than once."""
    last = op.steps[-1]
    return dict(op.aliases) if _is_ufunc(last) or 0 not in last.operands else {}


def _blocks(arrays: Sequence[Array]) -> Iterator[list[Array]]:
    """Pieces of all arrays, of one shape, with at most _BLOCK elements."""
    shape, strides = _collapsed(arrays)
    views = [
        np.lib.stride_tricks.as_strided(array, shape, steps)
        for array, steps in zip(arrays, strides, strict=True)
    ]
    inner = 1
    axis = len(shape)
    while axis and inner * shape[axis - 1] <= _BLOCK:
        axis -= 1
        inner *= shape[axis]
    if not axis:
        yield views
        return
    step = max(1, _BLOCK // inner)
    for outer in product(*map(range, shape[: axis - 1])):
        for low in range(0, shape[axis - 1], step):
            where: tuple[Any, ...] = (*outer, slice(low, low + step))
            yield [view[where] for view in views]


def _collapsed(arrays: Sequence[Array]) -> tuple[Shape, list[Shape]]:
    """The same elements with the fewest axes, and the strides of each array over those."""
    axes: list[tuple[int, tuple[int, ...]]] = []
    for size, *steps in zip(arrays[0].shape, *[a.strides for a in arrays], strict=True):
        if size == 1:
            continue
        if axes and all(a == size * b for a, b in zip(axes[-1][1], steps, strict=True)):
            axes[-1] = (axes[-1][0] * size, tuple(steps))
        else:
            axes.append((size, tuple(steps)))
    shape = tuple(size for size, _ in axes)
    return shape, [tuple(steps[i] for _, steps in axes) for i in range(len(arrays))]


def fused(calls: Sequence[Call]) -> None:
    """Steps on blocks, one after the other."""
    for call in calls:
        call()


def _unused(*_: Array) -> None:
    raise AssertionError("a fused kernel is bound")


NATIVE["fused"] = Native(_unused, frozenset({"body", "in_place"}), True, True, _make)

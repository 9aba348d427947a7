"""Programs on a device: eagerly, and compiled.

What is overwritten is copied before, so that each step can be judged by what it was given. A
`Reading` is the number of such a copy, or of a value as it is at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs

import groundup as gu
from groundup import dispatch
from groundup.backends.api import Device, View
from groundup.errors import AutogradError
from groundup.layout import Layout
from groundup.tensor import Tensor
from groundup_conformance.budgets.units import Array
from groundup_conformance.fuzz.programs import Program, Step
from groundup_conformance.memory import read
from groundup_conformance.running import Failed

Reading: TypeAlias = int
Arrays: TypeAlias = Sequence[Array | None]


@attrs.frozen(eq=False)
class Window:
    """How a value lies in an input's memory, `offset` elements from its start."""

    layout: Layout
    offset: int
    after: Reading  # what it shows after a write


@attrs.frozen(eq=False)
class Did:
    """What a step read and made. A write makes nothing: `windows` are all values that share the
    memory of its `target`, `before` is the whole of that memory as it was.
    """

    step: Step
    given: tuple[Reading, ...]
    made: tuple[Reading, ...] = ()
    before: Reading = -1
    target: Window | None = None
    windows: tuple[Window, ...] = ()


@attrs.frozen(eq=False)
class Outcome:
    """What a device made of a program."""

    program: Program
    did: Sequence[Did]
    arrays: Sequence[Array]  # by reading
    gradients: Arrays  # of the last value by each value, for ones; None where there is none
    last: Sequence[Reading]  # of each value, at the end


def run(program: Program, device: Device) -> Outcome:
    """Compute everything, then read it: reading in between would keep launches in order."""
    ran = _Run(program, _inputs(program, device))
    gradients = ran.all()
    arrays = [read(t) for t in ran.readings]
    return Outcome(program, ran.did, arrays, _read_all(gradients), ran.now)


def run_compiled(eager: Outcome, device: Device) -> Outcome:
    """The same compiled, with all readings as results.

    Raises Failed if its replay differs from its first run, or states from the readings of them.
    """
    found, states = _replayed(eager.program, device, lambda ran: ran.readings)
    count = len(eager.arrays)
    outcome = attrs.evolve(
        eager,
        arrays=[array for array in found[:count] if array is not None],
        gradients=found[count:],
    )
    for place, state in states.items():
        _same(f"input {place}", [outcome.arrays[eager.last[place]]], [state])
    return outcome


def check_lean(eager: Outcome, device: Device) -> None:
    """The same compiled, with the last value and the gradients as only results.

    So passes can fuse and drop what is in between. Raises Failed for any bit that differs: for
    devices on which fused ops compute what single ones do.
    """
    found, states = _replayed(eager.program, device, lambda ran: ran.values[-1:])
    _same("the last value", [eager.arrays[eager.last[-1]]], found[:1])
    _same("a gradient", eager.gradients, found[1:])
    for place, state in states.items():
        _same(f"input {place}", [eager.arrays[eager.last[place]]], [state])


def _replayed(
    program: Program, device: Device, results: Callable[[_Run], Sequence[Tensor]]
) -> tuple[Arrays, dict[int, Array]]:
    """Results and gradients of a replay, and what the inputs that are written to hold then.

    Those are captured, the others are arguments.
    """
    inputs = _inputs(program, device)
    captured = sorted(program.written())

    def whole(*arguments: Tensor) -> list[Tensor | None]:
        given = iter(arguments)
        ran = _Run(program, [x if i in captured else next(given) for i, x in enumerate(inputs)])
        gradients = ran.all()
        return [*results(ran), *gradients]

    compiled = gu.compile(whole)
    turns: list[Arrays] = []
    for _ in range(2):
        for place in captured:
            inputs[place].assign_(gu.from_numpy(program.inputs[place].array, device))
        found = compiled(*[x for i, x in enumerate(inputs) if i not in captured])
        turns.append(_read_all([*found, *[inputs[place] for place in captured]]))
    _same("the first run, which its replay repeats", *turns)
    count = len(turns[0]) - len(captured)
    states = zip(captured, turns[0][count:], strict=True)
    return turns[0][:count], {place: array for place, array in states if array is not None}


def _same(what: str, wanted: Arrays, got: Arrays) -> None:
    for one, other in zip(wanted, got, strict=True):
        if (one is None) != (other is None) or (
            one is not None and other is not None and one.tobytes() != other.tobytes()
        ):
            raise Failed(f"compiled, {what} is {one}, then {other}")


def _inputs(program: Program, device: Device) -> list[Tensor]:
    """On the device; floats that nothing writes to have gradients."""
    written = program.written()
    tensors = [gu.from_numpy(x.array, device) for x in program.inputs]
    for place, tensor in enumerate(tensors):
        if tensor.dtype.is_floating and place not in written:
            tensor.requires_grad_()
    return tensors


def _read_all(tensors: Sequence[Tensor | None]) -> Arrays:
    return [None if t is None else read(t) for t in tensors]


class _Run:
    """One run, on tensors that may be those of a trace."""

    def __init__(self, program: Program, inputs: Sequence[Tensor]) -> None:
        self.program = program
        self.values = list(inputs)
        self.readings = list(inputs)
        self.now: list[Reading] = list(range(len(self.values)))
        self.did: list[Did] = []

    def all(self) -> list[Tensor | None]:
        """All steps; returns the gradients of the last value."""
        for step in self.program.steps:
            if step.writes:
                self._write(step)
            else:
                self._compute(step)
        try:
            return self._gradients()
        except AutogradError:  # a value that the gradient needs was overwritten
            return [None] * len(self.values)

    def _compute(self, step: Step) -> None:
        operands = tuple([self.values[i] for i in step.operands])
        results = dispatch.apply(step.op, operands, operands[0].device)
        made = results if isinstance(results, tuple) else (results,)
        given = self._now(step)
        first = len(self.readings)
        self.values += made
        self.readings += made
        self.now += range(first, len(self.readings))
        self.did.append(Did(step, given, tuple(range(first, len(self.readings)))))

    def _write(self, step: Step) -> None:
        target, source = (self.values[i] for i in step.operands)
        root = _root(target)
        given = self._now(step)
        sharing = [i for i, value in enumerate(self.values) if _root(value) is root]
        whole = next(i for i in sharing if self.values[i]._view is root)
        before = self.now[whole]
        for i in sharing:
            self.readings[self.now[i]] = self.values[i].detach().clone()
        with gu.no_grad():
            target.assign_(source)
        windows = {}
        for i in sharing:
            self.now[i] = len(self.readings)
            self.readings.append(self.values[i].detach())
            windows[i] = _window(self.values[i], root, self.now[i])
        all_windows = tuple(windows.values())
        self.did.append(Did(step, given, (), before, windows[step.operands[0]], all_windows))

    def _now(self, step: Step) -> tuple[Reading, ...]:
        return tuple([self.now[i] for i in step.operands])

    def _gradients(self) -> list[Tensor | None]:
        values = self.values
        last = values[-1]
        if not last.requires_grad:
            return [None] * len(values)
        ones = dispatch.constant(1.0, last.dtype, last.shape, last.device)
        tracked = [value for value in values[:-1] if value.requires_grad]
        found = dict(zip(map(id, tracked), gu.grad(last, tracked, [ones]), strict=True))
        return [ones if value is last else found.get(id(value)) for value in values]


def _root(t: Tensor) -> View:
    return t._view.root or t._view


def _window(t: Tensor, root: View, after: Reading) -> Window:
    view = t._view
    step = t.device.info.itemsize(view.layout.dtype)
    return Window(view.layout, (view.offset - root.offset) // step, after)

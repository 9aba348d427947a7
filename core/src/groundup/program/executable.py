"""A program bound to memory: its launches are made once and replayed.

Inputs are copied into their places, results are copied out to fresh tensors: no two results that
are alive share memory. Captured memory is written where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groundup import dispatch
from groundup.backends.api import Launch, View
from groundup.errors import ProgramError, ShapeError
from groundup.graph import Setting
from groundup.layout import Layout
from groundup.ops.lower import RunKernel
from groundup.ops.movement import Assign, Contiguous
from groundup.program.arenas import arenas_of, words, words_layout
from groundup.program.lowering import Lowered
from groundup.program.plan import Place, Plan, make_plan
from groundup.program.program import Node, Value
from groundup.program.views import PutView
from groundup.spans import current, span
from groundup.tensor import Tensor


class Executable:
    """`run(*inputs)` replays a lowered program.

    `state` is the memory of each captured value. Executables of one device take turns: they compute
    in the same arenas. A device may take the whole of it (`Device.compile`): what it returns must
    read the views of inputs and captured values, write those of outputs, carry out the effects.
    """

    def __init__(self, lowered: Lowered, state: Mapping[Value, View]) -> None:
        self.program, self.device = lowered.program, lowered.device
        self.plan: Plan = make_plan(lowered)
        self._lowered = lowered
        self.state = state
        self._shared = arenas_of(self.device)
        self._views: dict[Value, View] = {}
        self._aside: dict[Value, View] = {}
        self._arenas = self._shared.take(self.plan.arenas, self.device)
        self._run_setup()
        bound = [(node, launch) for node in self.program.nodes for launch in self._bind([node])]
        bound += self._effects()
        self.launches: list[Launch] = [launch for _, launch in bound]
        self.sources = [node for node, _ in bound]  # whose launch each is
        self._replay = self.device.compile(self) or self.device.record(self.launches)
        self._inputs = [self._tensor(self.view(value)) for value in self.program.inputs]
        self._outputs = [self._tensor(self._result(value)) for value in self.program.outputs]
        self._written = [state[effect.target] for effect in self.program.effects]
        self.written = frozenset(map(id, self._written))  # by identity, as are those that it reads
        self.reads = frozenset(id(view) for view in state.values())

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Outputs for these inputs, which must have the program's shapes and dtypes."""
        with self._shared.turn, Setting(grad=False, interceptor=None), span("compiled"):
            for target, given in zip(self._inputs, inputs, strict=True):
                if given._view.layout.spec is not target._view.layout.spec:
                    raise ShapeError(f"program: an input is {given.spec}, wanted {target.spec}")
                dispatch.update(Assign(), (target, given))
            self._replay_once()
            for view in self._written:
                view.version += 1
            return [_copied(t) for t in self._outputs]

    def _replay_once(self) -> None:
        """One run of the launches: recorded, or one by one where a profile looks on."""
        device, recorder = self.device, current.recorder
        if recorder is None and device.timer is None:
            device.launches += len(self.launches)
            self._replay()
            return
        for node, launch in zip(self.sources, self.launches, strict=True):
            if recorder is not None:
                recorder.begin_launch(node, device)
            try:
                device.launches += 1
                if device.timer is None:
                    launch()
                else:
                    device.timer(launch)
            finally:
                if recorder is not None:
                    recorder.end()

    # ---- memory ----

    def _tensor(self, view: View) -> Tensor:
        return Tensor(view, self.device, None, 0)

    def view(self, value: Value) -> View:
        """Where a value of the program lies."""
        found = self._views.get(value)
        if found is None:
            found = self._views[value] = self._locate(value)
        return found

    def _locate(self, value: Value) -> View:
        plan = self.plan
        if value in plan.base:
            shown, start = plan.base[value]
            offset = start * self.device.info.itemsize(value.layout.dtype)
            return dispatch.derive(self.view(shown), value.layout, offset, self.device)
        if value in plan.homes:
            return self.view(plan.homes[value])
        if value in self.state:
            return self.state[value]
        if value in plan.places:
            return self._part(plan.places[value], value.layout)
        raise ProgramError(f"a value {value.layout!r} has no memory")

    def _part(self, place: Place, layout: Layout) -> View:
        return dispatch.derive(self._arenas[place.arena], layout, place.offset, self.device)

    # ---- launches ----

    def _run_setup(self) -> None:
        """Constants get their own memory, and are computed now."""
        for node in self.program.setup:
            if not node.is_view:
                for out in node.outputs:
                    self._views[out] = self.device.empty(out.layout)
            for launch in self._bind([node]):
                launch()

    def _bind(self, nodes: Sequence[Node]) -> list[Launch]:
        launches: list[Launch] = []
        for node in nodes:
            if node.is_view:
                continue
            if type(node.op) is PutView:
                launches += self._put_view(node, node.op)
                continue
            inputs = [self.view(value) for value in node.inputs]
            outputs = [self.view(value) for value in node.outputs]
            kernel = self._lowered.kernels[node]
            launches.append(kernel.bind(inputs, outputs, self._workspace(node, kernel.workspace)))
        return launches

    def _workspace(self, node: Node, nbytes: int) -> View | None:
        if not nbytes:
            return None
        place = self.plan.workspaces.get(node)
        if place is None:  # in the setup
            return words(nbytes, self.device)
        return self._part(place, words_layout(nbytes))

    def _put_view(self, node: Node, op: PutView) -> list[Launch]:
        """A copy of the base unless its memory is taken over, then the window overwritten."""
        base, value = node.inputs
        (out,) = node.outputs
        launches = []
        target = self.view(out)
        if out not in self.plan.in_place:
            launches += self._copy(target, self.view(base))
        offset = op.offset * self.device.info.itemsize(base.layout.dtype)
        window = dispatch.derive(target, op.window(base.layout), offset, self.device)
        return launches + self._copy(window, self.view(value))

    def _copy(self, target: View, source: View) -> list[Launch]:
        """Launches that write `source` into `target`, whatever their strides."""
        signature = (Assign(), target.layout, source.layout)
        plan = self.device.plans.get(signature) or dispatch.make_plan(
            signature[0], signature, self.device
        )
        if not isinstance(plan, RunKernel) or plan.copies or plan.kernel.in_place.get(0) != 0:
            name = self.device.info.name
            raise ProgramError(f"{name} cannot assign {source.layout!r} to {target.layout!r}")
        return [plan.kernel.bind([target, source], [target])]

    def _effects(self) -> list[tuple[Node, Launch]]:
        """Copies of what could not be made in its target's memory, as of the nodes that made it.

        All effects happen at once: a value in captured memory that these copies overwrite is first
        put aside, and so is an output there.
        """
        plan, producers = self.plan, self.program.producers()
        first: list[tuple[Node, Launch]] = []
        then: list[tuple[Node, Launch]] = []
        pending = [e for e in self.program.effects if plan.homes.get(e.value) is not e.target]
        overwritten = {effect.target for effect in pending}
        for value in (*self.program.outputs, *[effect.value for effect in pending]):
            if plan.base.get(value, (value, 0))[0] in overwritten and value not in self._aside:
                aside = self._aside[value] = self.device.empty(Layout.contiguous(value.spec))
                node = Node(Contiguous(), (value,), ())
                first += [(node, launch) for launch in self._copy(aside, self.view(value))]
        for effect in pending:
            maker = producers.get(effect.value)
            where = ("", "") if maker is None else (maker.scope, maker.lane)
            node = Node(Assign(), (effect.target, effect.value), (), *where)
            copies = self._copy(self.view(effect.target), self._result(effect.value))
            then += [(node, launch) for launch in copies]
        return first + then

    def _result(self, value: Value) -> View:
        """Where a result lies while effects happen."""
        return self._aside.get(value) or self.view(value)

    def describe(self) -> Any:
        """What each launch says of itself, for profiles and exports."""
        return [launch.describe() for launch in self.launches]


def _copied(t: Tensor) -> Tensor:
    """A fresh tensor of the same values. Interceptors do not see it made, a profile does."""
    recorder = current.recorder
    if recorder is not None:
        recorder.begin_update(Contiguous(), (t,))
    try:
        copy: Tensor = dispatch.run(Contiguous(), (t,))
    finally:
        if recorder is not None:
            recorder.end()
    return copy

"""One program of a compiled function: how a call becomes one, and how it runs.

The trace sees stand-ins for the tensor arguments and for gradients that are there already. An
`Entry` remembers what each of them, and each result, was, so that a later call can put its own
tensors in their places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from groundup import dispatch
from groundup.backends.devices import default_device
from groundup.errors import AutogradError, TraceError
from groundup.graph import Leaf, Node, Setting, mode
from groundup.layout import Spec
from groundup.program import signature as trees
from groundup.program.executable import Executable
from groundup.program.guards import Guards, Surroundings, changed
from groundup.program.lowering import lower_program
from groundup.program.passes import PASSES, Pass, optimize
from groundup.program.passes.fusion import fuse_elementwise
from groundup.program.program import Program, verify
from groundup.program.storage import has_memory, is_written
from groundup.program.trace import LeafGrad, Tracer
from groundup.tensor import Tensor


@attrs.frozen(eq=False)
class GradUse:
    """The gradient of one leaf: whether it must be there before, and what it is afterwards."""

    leaf: Leaf | None  # None: the leaf is the tensor argument `argument`
    argument: int | None
    given: Spec | None  # of the gradient that must be there before
    after: int | str  # the number of an output, "kept" or "none"
    in_place: bool = False  # the output is written into the gradient that was there

    def find(self, tensors: Sequence[Tensor]) -> Leaf:
        """The leaf of this call."""
        if self.leaf is not None:
            return self.leaf
        assert self.argument is not None
        node = tensors[self.argument]._node
        assert isinstance(node, Leaf)
        return node


@attrs.define(eq=False)
class Entry:
    """One program of a function, and when it may be used."""

    executable: Executable
    traced: Program  # before the passes
    guards: Guards
    grads: Sequence[GradUse]
    result: Any  # the tree of results, with a Slot for each output
    differentiable: Sequence[bool]  # per output, whether it would have a graph eagerly
    barrier: Node | None  # what those get instead of one
    written: Sequence[tuple[int, int]]  # tensor arguments, and the outputs to write into them

    def run(self, tensors: Sequence[Tensor]) -> Any:
        """Replay with these tensor arguments; gradients go where they belong."""
        self._check_memory(tensors)
        inputs = list(tensors)
        for use in self.grads:
            if use.given is not None:
                grad = use.find(tensors).grad
                assert grad is not None
                inputs.append(grad)
        outputs = self.executable.run(inputs)
        for use in self.grads:
            leaf = use.find(tensors)
            if use.after == "none":
                leaf.grad = None
            elif use.in_place:
                _overwrite(leaf.grad, outputs[int(use.after)])
            elif use.after != "kept":
                leaf.grad = outputs[int(use.after)]
        for argument, output in self.written:
            _overwrite(tensors[argument], outputs[output])
        if self.barrier is not None:
            for i, wanted in enumerate(self.differentiable):
                if wanted:
                    outputs[i]._node, outputs[i]._index = self.barrier, i
        return trees.put_together(self.result, outputs.__getitem__)

    def _check_memory(self, tensors: Sequence[Tensor]) -> None:
        """Raises TraceError where a write would be seen through another argument, or be missed.

        A program reads its arguments before it writes anything; eagerly, order would matter.
        """
        roots = [id(t._view.root or t._view) for t in tensors]
        if not self.executable.written.isdisjoint(roots):
            raise TraceError(
                "an argument lies in memory that the compiled function captured and writes",
                hint="do not pass what it captures",
            )
        for argument, _ in self.written:
            if roots.count(roots[argument]) > 1 or roots[argument] in self.executable.reads:
                raise TraceError(
                    f"argument {argument} is written, and its memory is used by its other name too",
                    hint="pass each memory once, and do not capture it",
                )

    def grads_fit(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the gradients that it was traced with are there, and no others."""
        for use in self.grads:
            grad = use.find(tensors).grad
            if (None if grad is None else grad.spec) is not use.given:
                return False
        return True


def _overwrite(target: Tensor | None, value: Tensor) -> None:
    assert target is not None
    with Setting(grad=False):
        target.assign_(value)


def trace_call(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    tensors: Sequence[Tensor],
    passes: Sequence[Pass] = PASSES,
) -> Entry:
    """The program of `function(*args, **kwargs)`; `tensors` are those among the arguments.

    Raises TraceError, and whatever the function raises; nothing has changed then.
    """
    arguments = list(trees.paths(function, args, kwargs))
    for name, value in arguments:
        trees.check_argument(name, value)
    objects = {name: value for name, value in arguments if not isinstance(value, Tensor)}
    around = Surroundings.of(function, objects)
    tracer = Tracer()
    names = [name for name, value in arguments if isinstance(value, Tensor)]
    stand_ins = _stand_ins(tracer, tensors, names)
    in_order = iter(stand_ins)
    traced_args = trees.replace(args, in_order)
    traced_kwargs = trees.replace(kwargs, in_order)
    before = around.snapshot()
    tracer.undo(around.restorer())

    def called() -> tuple[Any, list[Tensor]]:
        result = function(*traced_args, **traced_kwargs)
        differs = changed(before, around.snapshot())
        if differs is not None:
            raise TraceError(
                f"{_definition(function)} changes {differs}, which a replay would not do",
                hint="return what is to be kept, and change it after the call",
            )
        outputs: list[Tensor] = []
        return trees.take_apart(result, lambda t: _placed(tracer, t, outputs)), outputs

    result, outputs = tracer.run(called)
    try:
        differentiable = [isinstance(t._node, Node) for t in outputs]
        uses = [_use(entry, outputs) for entry in tracer.grads.values()]
        written = [(i, _add(outputs, t)) for i, t in enumerate(stand_ins) if is_written(t._view)]
        program = tracer.finish([t._view for t in outputs], _names(around))
    finally:
        tracer.restore()
    executable = tracer.guarded(lambda: build(program, tracer, passes))
    around.guard(tracer.guards)
    tracer.guards.settle()
    barrier = _barrier(outputs) if any(differentiable) else None
    return Entry(executable, program, tracer.guards, uses, result, differentiable, barrier, written)


def _add(outputs: list[Tensor], t: Tensor) -> int:
    """The number of a new output."""
    outputs.append(t)
    return len(outputs) - 1


def build(program: Program, tracer: Tracer, passes: Sequence[Pass] = PASSES) -> Executable:
    """The program after the passes, in kernels of the tracer's device, bound to memory."""
    device = tracer.device or default_device()  # a function without tensors runs anywhere
    program = optimize(program, passes)
    lowered = lower_program(program, device)
    composed = _op_names(program) - _op_names(lowered.program)
    if composed and fuse_elementwise in passes and "fused" not in composed:
        # Some composites have no kernel there; their parts may be fused with what is around them.
        lowered = lower_program(verify(fuse_elementwise(lowered.program)), device)
    return Executable(lowered, tracer.state())


def _op_names(program: Program) -> set[str]:
    return {node.op.name for node in program.nodes}


def _stand_ins(tracer: Tracer, tensors: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
    """A tensor without memory for each tensor argument; leaves stay leaves."""
    found = []
    for index, (given, name) in enumerate(zip(tensors, names, strict=True)):
        tracer.device = tracer.device or given.device
        if given.device is not tracer.device:
            raise TraceError(
                f"{name} is on {given.device.info.name}, other arguments on "
                f"{tracer.device.info.name}",
                hint="a compiled function has one device",
            )
        if mode.grad and isinstance(given._node, Node):
            raise TraceError(
                f"{name} is the result of recorded ops outside",
                hint="detach() it, or compute it inside the compiled function",
            )
        stand_in = tracer.input(given.spec, name)
        if isinstance(given._node, Leaf):
            stand_in._node = Leaf()
            tracer.argument_leaf(stand_in._node, index, given._node.grad)
        found.append(stand_in)
    return found


def _placed(tracer: Tracer, t: Tensor, outputs: list[Tensor]) -> Any:
    """The Slot of an output; a captured tensor is returned as it is."""
    if has_memory(t._view) and not tracer.is_literal(t):
        return t
    return trees.Slot(_add(outputs, t))


def _use(entry: LeafGrad, outputs: list[Tensor]) -> GradUse:
    """What the trace did to a leaf's gradient; a new one becomes an output."""
    leaf = None if entry.argument is not None else entry.leaf
    now, given = entry.leaf.grad, entry.given
    in_place = now is not None and now is given and is_written(now._view)
    after: int | str
    if now is None:
        after = "none"
    elif now is given and not in_place:
        after = "kept"
    else:
        after = _add(outputs, now)
    return GradUse(leaf, entry.argument, entry.spec, after, in_place)


class _Barrier:
    """Stands where a node keeps its op: there is no way back into a replayed program."""

    name = "compiled"
    saves = ()
    differentiable = (0,)

    def vjp(self, ctx: Node, *grads: Tensor) -> Any:
        raise AutogradError(
            "backward: the result comes from a compiled function, which kept no graph",
            hint="call backward() inside the compiled function, or compile the whole step",
        )

    def __repr__(self) -> str:
        return "a compiled function"


def _barrier(outputs: Sequence[Tensor]) -> Node:
    op: Any = _Barrier()
    node = Node(op, [t.detach() for t in outputs[:1]], [t._view for t in outputs], dispatch.make)
    op.differentiable = tuple(range(len(outputs)))
    return node


def _names(around: Surroundings) -> dict[int, str]:
    """Names of captured tensors, by their memory: of parameters, buffers and optimizer state.

    Looked for in the modules and optimizers that the function names, and in those of its `self`.
    """
    objects = dict(around.objects)
    if "self" in objects and hasattr(objects["self"], "__dict__"):
        objects |= vars(objects["self"])
    modules = {n: value for n, value in objects.items() if hasattr(value, "named_parameters")}
    found: dict[int, str] = {}
    for name, module in modules.items():
        prefix = f"{name}." if len(modules) > 1 else ""
        for path, tensor in (*module.named_parameters(), *module.named_buffers()):
            found.setdefault(_memory(tensor), prefix + path)
    for name, value in objects.items():
        if hasattr(value, "param_groups") and hasattr(value, "state_dict"):
            tensors = {k: t for k, t in value.state_dict().items() if isinstance(t, Tensor)}
            for path, tensor in tensors.items():
                found.setdefault(_memory(tensor), f"{name}.{path}")
    return found


def _memory(tensor: Tensor) -> int:
    return id(tensor._view.root or tensor._view)


def _definition(function: Any) -> str:
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    name = getattr(function, "__qualname__", type(function).__name__)
    return name if code is None else f"{code.co_filename}:{code.co_firstlineno}: {name}"

"""From a program's nodes to kernels of one device: the last step in which nodes may change.

The trace already took native ops where the device has them; but passes make new ones, which it may
decline, and a program may come from another device. So `ops.lower` is asked again. What it
composes is traced and put in its place; copies that a kernel needs become nodes, so that two
kernels share one and its memory is planned.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from groundup import dispatch
from groundup.backends.api import Device, Kernel
from groundup.errors import ProgramError
from groundup.graph import Setting
from groundup.layout import Layout
from groundup.ops.lower import Compose, RunKernel
from groundup.ops.movement import Contiguous
from groundup.program.passes.dead_code import remove_dead_code
from groundup.program.passes.rewriting import Rewriter
from groundup.program.passes.setup import move_to_setup
from groundup.program.passes.subexpressions import merge_subexpressions
from groundup.program.program import Node, Program, Value, verify
from groundup.program.trace import Tracer
from groundup.program.views import PutView, StridedView
from groundup.tensor import Tensor


@attrs.frozen(eq=False)
class Lowered:
    """A program whose every node is a view, a put_view, or has a kernel on `device`."""

    program: Program
    device: Device
    kernels: dict[Node, Kernel]


def lower_program(program: Program, device: Device) -> Lowered:
    """`program` in kernels of `device`.

    Raises UnsupportedOp or UnsupportedDtype for what the device cannot do, even composed.
    """
    rewriter = Rewriter()
    setup = _lowered(program.setup, rewriter, device)
    nodes = _lowered(program.nodes, rewriter, device)
    program = rewriter.program(program, nodes, setup)
    program = remove_dead_code(merge_subexpressions(move_to_setup(program)))
    kernels = {
        node: kernel
        for node in (*program.setup, *program.nodes)
        if (kernel := _kernel(node, device)) is not None
    }
    return Lowered(verify(program), device, kernels)


def _lowered(nodes: Sequence[Node], rewriter: Rewriter, device: Device) -> list[Node]:
    done: list[Node] = []
    for original in nodes:
        node = rewriter.node(original)
        if type(node.op) in (StridedView, PutView):
            done.append(node)
            continue
        plan = _plan(node, device)
        if isinstance(plan, RunKernel):
            done += _with_copies(node, plan)
        elif isinstance(plan, Compose):
            done += _composed(node, rewriter, device)
        else:
            raise ProgramError(f"{node.op!r} is no op on values: {type(plan).__name__}")
    return done


def _plan(node: Node, device: Device) -> object:
    signature = (node.op, *[value.layout for value in node.inputs])
    return device.plans.get(signature) or dispatch.make_plan(node.op, signature, device)


def _kernel(node: Node, device: Device) -> Kernel | None:
    if type(node.op) in (StridedView, PutView):
        return None
    plan = _plan(node, device)
    assert isinstance(plan, RunKernel)
    assert not plan.copies
    return plan.kernel


def _with_copies(node: Node, plan: RunKernel) -> list[Node]:
    """The node, behind copies of the inputs that its kernel wants row-major."""
    inputs, copies = list(node.inputs), []
    for index in plan.copies:
        copy = Value(Layout.contiguous(inputs[index].spec))
        copies.append(Node(Contiguous(), (inputs[index],), (copy,), node.scope, node.lane))
        inputs[index] = copy
    return [*copies, attrs.evolve(node, inputs=tuple(inputs))]


def _composed(node: Node, rewriter: Rewriter, device: Device) -> list[Node]:
    """The nodes of the op's composition, its results in place of the node's."""
    tracer = Tracer()
    tracer.device = device
    stand_ins = [tracer.stand_in(value) for value in node.inputs]

    def compose() -> object:
        return node.op.compose(*stand_ins) if stand_ins else node.op.compose(device=device)

    with Setting(grad=False, interceptor=None):  # autocast has had its say when the op was traced
        results = tracer.run(compose)
    outs: tuple[Tensor, ...] = results if isinstance(results, tuple) else (results,)
    program = tracer.finish([t._view for t in outs], {})
    if program.captured:
        raise ProgramError(f"the composition of {node.op!r} uses tensors from outside")
    made = [attrs.evolve(each, scope=node.scope, lane=node.lane) for each in program.nodes]
    for old, new in zip(node.outputs, program.outputs, strict=True):
        if not new.layout.is_row_major:
            dense = Value(Layout.contiguous(new.spec))
            made.append(Node(Contiguous(), (new,), (dense,), node.scope, node.lane))
            new = dense
        rewriter.replace(old, new)
    return _lowered(made, Rewriter(), device)

"""Composites: several ops that the registry has one op for.

Each rule looks at one op of a pattern, mostly the last. What the pattern computes in between must
be read by nobody else, or come out of the one op too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import attrs

from groundup.dtypes import float32
from groundup.layout import Layout, Spec
from groundup.ops.arithmetic import Add, Mul
from groundup.ops.contraction import Linear, MatMul
from groundup.ops.loss import CrossEntropy, NllLoss
from groundup.ops.normalization import (
    AddLayerNorm,
    AddLayerNormBackward,
    AddRMSNorm,
    AddRMSNormBackward,
    LayerNorm,
    LayerNormBackward,
    RMSNorm,
    RMSNormBackward,
)
from groundup.ops.op import Op
from groundup.ops.optimizer_ops import AdamW, Sgd, Update
from groundup.ops.softmax import LogSoftmax
from groundup.program.passes.dead_code import remove_dead_code
from groundup.program.passes.identities import constant
from groundup.program.program import Node, Program, Value


def recognize_composites(program: Program) -> Program:
    """Residual add and norm and their gradients, bias add behind a product, log_softmax and
    nll_loss, clipping and optimizer, each as one op.

    The results are within that op's accuracy. In float32 those of norms and optimizers are the same
    to the bit on the cpu, while products and losses may add up in another order.
    """
    pattern = _Pattern(program)
    nodes = [pattern.replaced(time, node) for time, node in enumerate(program.nodes)]
    kept = [node for time, node in enumerate(nodes) if time not in pattern.dropped]
    return remove_dead_code(attrs.evolve(program, nodes=tuple(kept)))


class _Pattern:
    """What rules ask of a program: who makes a value, and who reads it."""

    def __init__(self, program: Program) -> None:
        self.nodes = program.nodes
        self.producers = program.producers()
        self.time = {out: i for i, node in enumerate(program.nodes) for out in node.outputs}
        self.uses = program.uses()
        self.first_read: dict[Value, int] = {}
        for i, node in enumerate(program.nodes):
            for value in node.inputs:
                self.first_read.setdefault(value, i)
        self.dropped: set[int] = set()  # nodes that another one makes superfluous

    def replaced(self, time: int, node: Node) -> Node:
        """The node, or the one op for it and what precedes it."""
        rule = _RULES.get(type(node.op))
        return node if rule is None else rule(self, time, node) or node

    def made_by(self, value: Value, kind: type[Op]) -> Node | None:
        """The node that makes `value`, if it is of that kind."""
        node = self.producers.get(value)
        return node if node is not None and type(node.op) is kind else None

    def spread(self, value: Value) -> Value | None:
        """The row or number that a broadcast view repeats; a value itself if it is no view."""
        node = self.producers.get(value)
        if node is None or not node.is_view:
            return value
        source = node.inputs[0]
        strides = node.outputs[0].layout.strides
        along = (0,) * (len(strides) - source.layout.rank) + source.layout.strides
        whole = source.layout.shape == value.layout.shape[len(strides) - source.layout.rank :]
        return source if whole and strides == along else None


def _add_norm(pattern: _Pattern, time: int, node: Node) -> Node | None:
    """norm(x + residual): the sum comes out of the one op as well."""
    add = pattern.made_by(node.inputs[0], Add)
    if add is None or add.outputs[0] not in pattern.time:
        return None
    if not all(value.layout.is_row_major for value in add.inputs):
        return None
    (total,) = add.outputs
    if pattern.first_read[total] < time:
        return None
    pattern.dropped.add(pattern.time[total])
    op = _WITH_RESIDUAL[type(node.op)](eps=node.op.eps)  # type: ignore[attr-defined, call-arg]
    inputs = (*add.inputs, *node.inputs[1:])
    return attrs.evolve(node, op=op, inputs=inputs, outputs=(*node.outputs, total))


def _norm_gradient(pattern: _Pattern, time: int, node: Node) -> Node | None:
    """dx + grad_sum, where only that sum reads the norm's dx: the op adds what is there already."""
    dx, *vectors = node.outputs
    reader = pattern.nodes[pattern.first_read[dx]] if dx in pattern.first_read else node
    if pattern.uses.get(dx) != 1 or type(reader.op) is not Add:
        return None
    grad_sum = reader.inputs[reader.inputs[0] is dx]
    if pattern.time.get(grad_sum, -1) > time or grad_sum.layout is not dx.layout:
        return None
    pattern.dropped.add(pattern.first_read[dx])
    op = _WITH_GRAD_SUM[type(node.op)](eps=node.op.eps)  # type: ignore[attr-defined, call-arg]
    inputs = (*node.inputs, grad_sum)
    return attrs.evolve(node, op=op, inputs=inputs, outputs=(*reader.outputs, *vectors))


def _linear(pattern: _Pattern, _: int, node: Node) -> Node | None:
    """x @ weight.mT + bias, or linear(x, weight) + bias, where nobody else reads the product."""
    for place in (0, 1):
        product, bias = node.inputs[place], pattern.spread(node.inputs[1 - place])
        found = pattern.producers.get(product)
        if found is None or bias is None or pattern.uses[product] != 1:
            continue
        x, weight = _factors(pattern, found)
        if weight is None or not bias.layout.is_row_major:
            continue
        if bias.spec is Spec(weight.layout.shape[:1], x.spec.dtype):
            return attrs.evolve(node, op=Linear(), inputs=(x, weight, bias))
    return None


def _factors(pattern: _Pattern, node: Node) -> tuple[Value, Value | None]:
    """x and weight (N, K) of a product; no weight if it is none of the two forms."""
    x = node.inputs[0] if node.inputs else node.outputs[0]
    if type(node.op) is Linear and len(node.inputs) == 2:
        return x, node.inputs[1]
    if type(node.op) is not MatMul or not x.spec.dtype.is_floating or x.layout.rank < 2:
        return x, None
    view = pattern.producers.get(node.inputs[1])
    if view is None or not view.is_view or view.outputs[0].layout.rank != 2:
        return x, None
    turned, weight = view.outputs[0].layout, view.inputs[0]
    back = Layout(turned.shape[::-1], turned.strides[::-1], turned.dtype)
    whole = back is weight.layout and back.is_row_major
    return x, weight if whole and view.op.offset == 0 else None  # type: ignore[attr-defined]


def _loss(pattern: _Pattern, _: int, node: Node) -> Node | None:
    """nll_loss(log_softmax(x), target), where nobody else reads the logarithms."""
    scores, target = node.inputs
    found = pattern.made_by(scores, LogSoftmax)
    if found is None or pattern.uses[scores] != 1:
        return None
    x = found.inputs[0]
    if found.op.axis % x.layout.rank != x.layout.rank - 1:  # type: ignore[attr-defined]
        return None
    assert isinstance(node.op, NllLoss)
    op = CrossEntropy(ignore_index=node.op.ignore_index, reduction=node.op.reduction)
    sums = op.infer(x.spec, target.spec)[1]
    outputs = (*node.outputs, Value(Layout.contiguous(sums)))
    return attrs.evolve(node, op=op, inputs=(x, target), outputs=outputs)


def _clipped(pattern: _Pattern, _: int, node: Node) -> Node | None:
    """An optimizer on gradients that are all multiplied by one number: by its `scale`."""
    assert isinstance(node.op, Update)
    count = node.op.count
    grads = node.inputs[3 + count : 3 + 2 * count]
    if constant(node.inputs[2], pattern.producers) != 1.0:
        return None
    pairs = [_scaled(pattern, grad) for grad in grads]
    number = pairs[0][1]
    if number is None or any(other is not number for _, other in pairs):
        return None
    inputs = (
        *node.inputs[:2], number, *node.inputs[3 : 3 + count],
        *[grad for grad, _ in pairs], *node.inputs[3 + 2 * count :],
    )  # fmt: skip
    return attrs.evolve(node, inputs=inputs)


def _scaled(pattern: _Pattern, grad: Value) -> tuple[Value, Value | None]:
    """A gradient and the number that it was multiplied by, None if by none."""
    found = pattern.made_by(grad, Mul)
    if found is None or pattern.uses[grad] != 1 or grad.spec.dtype is not float32:
        return grad, None
    for place in (0, 1):
        number = pattern.spread(found.inputs[1 - place])
        if number is not None and number.layout.rank == 0:
            return found.inputs[place], number
    return grad, None


_WITH_RESIDUAL: Final[Mapping[type[Op], type[Op]]] = {
    LayerNorm: AddLayerNorm, RMSNorm: AddRMSNorm,
}  # fmt: skip
_WITH_GRAD_SUM: Final[Mapping[type[Op], type[Op]]] = {
    LayerNormBackward: AddLayerNormBackward, RMSNormBackward: AddRMSNormBackward,
}  # fmt: skip
Rule: TypeAlias = Callable[[_Pattern, int, Node], Node | None]
_RULES: Final[Mapping[type[Op], Rule]] = {
    LayerNorm: _add_norm, RMSNorm: _add_norm, Add: _linear, NllLoss: _loss,
    LayerNormBackward: _norm_gradient, RMSNormBackward: _norm_gradient,
    AdamW: _clipped, Sgd: _clipped,
}  # fmt: skip

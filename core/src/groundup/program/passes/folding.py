"""Constant folding: arithmetic on numbers that are known is done now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import numpy as np

from groundup.dtypes import DType
from groundup.ops.creation import Full
from groundup.program.passes.identities import constant
from groundup.program.program import Node, Program, Value

# Only what every device computes alike: correctly rounded, or without any rounding.
_EXACT: Final[dict[str, Callable[..., Any]]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "abs": np.abs,
    "maximum": np.maximum, "minimum": np.minimum, "floor": np.floor, "ceil": np.ceil,
    "less": np.less, "less_equal": np.less_equal, "greater": np.greater,
    "greater_equal": np.greater_equal, "equal": np.equal, "not_equal": np.not_equal,
    "where": np.where, "contiguous": np.array,
}  # fmt: skip


def fold_constants(program: Program) -> Program:
    """Exact ops on values that hold one number everywhere, and sums of nothing: `full`."""
    producers = program.producers()

    def folded(nodes: Sequence[Node]) -> tuple[Node, ...]:
        kept = []
        for node in nodes:
            kept.append(_folded(node, producers) or node)
            producers.update(dict.fromkeys(node.outputs, kept[-1]))
        return tuple(kept)

    setup = folded(program.setup)
    return attrs.evolve(program, setup=setup, nodes=folded(program.nodes))


def _folded(node: Node, producers: dict[Value, Node]) -> Node | None:
    """The node as a `full`; None if an input is not known, or the op rounds in its own way."""
    if node.op.name == "sum" and not node.inputs[0].layout.size:
        return _full(node, 0)
    function = _EXACT.get(node.op.name)
    if function is None or not node.inputs:
        return None
    known = [constant(value, producers) for value in node.inputs]
    if any(number is None for number in known):
        return None
    (out,) = node.outputs
    arrays = [
        np.asarray(number).astype(value.spec.dtype.numpy)
        for number, value in zip(known, node.inputs, strict=True)
    ]
    with np.errstate(all="ignore"):
        result = function(*arrays)
    floating = out.spec.dtype.is_floating
    value = float(result) if floating else result.item()
    if floating and 0 < abs(value) < _tiny(out.spec.dtype):  # which some devices take for 0
        return None
    return _full(node, value)


def _full(node: Node, value: float) -> Node:
    (out,) = node.outputs
    op = Full(shape=out.spec.shape, value=value, dtype=out.spec.dtype)
    return attrs.evolve(node, op=op, inputs=())


def _tiny(dtype: DType) -> float:
    """The smallest number of a float dtype that has all its digits."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).tiny)  # type: ignore[no-untyped-call]

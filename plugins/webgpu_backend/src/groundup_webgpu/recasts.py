"""recast: an op between casts, by the op's own kernel.

The kernels of norms and losses load and store each operand in a dtype of its own and compute in
f32, so that the casts around an op that is to be computed in float32 are done by its loads and
stores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from groundup.backends.api import Declined
from groundup.dtypes import float32
from groundup.layout import Layout
from groundup_webgpu.loss import cross_entropy, cross_entropy_backward
from groundup_webgpu.machine import Machine
from groundup_webgpu.normalization import normalized, normalized_backward
from groundup_webgpu.source import Stage

Layouts = Sequence[Layout]
_MAKERS: Final[dict[str, Callable[[Any, Layouts, Layouts, Machine], list[Stage] | Declined]]] = {
    "layer_norm": normalized, "rms_norm": normalized,
    "add_layer_norm": normalized, "add_rms_norm": normalized,
    "layer_norm_backward": normalized_backward, "rms_norm_backward": normalized_backward,
    "add_layer_norm_backward": normalized_backward, "add_rms_norm_backward": normalized_backward,
    "cross_entropy": cross_entropy, "cross_entropy_backward": cross_entropy_backward,
}  # fmt: skip


def recast(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage] | Declined:
    """The stages of the op between the casts, on operands as they are stored."""
    made = _MAKERS.get(op.op.name)
    if made is None:
        return Declined(f"recast: {op.op.name} loads and stores one dtype")
    if op.again:
        return Declined(f"recast: {op.op.name} writes each result once")
    given = op.cast_inputs([x.spec for x in inputs])
    results = op.op.infer_all(*given)
    if any(spec.dtype.is_floating and spec.dtype is not float32 for spec in (*given, *results)):
        return Declined(f"recast: {op.op.name} is not in float32")
    return made(op.op, inputs, outputs, machine)

"""recast: an op between casts, by the op's own kernel.

These kernels load and store each operand in a dtype of its own and compute in float32, so that the
casts around an op that is to be computed in float32 are done by its loads and stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from groundup.dtypes import float32
from groundup_cuda.expressions import STORED
from groundup_cuda.plans import Layouts

_NORMS: Final = frozenset({"layer_norm", "rms_norm", "add_layer_norm", "add_rms_norm"})
_GRADIENTS: Final = frozenset(f"{name}_backward" for name in _NORMS)
_OTHERS: Final = frozenset(
    {
        "adamw", "cross_entropy", "cross_entropy_backward", "global_norm", "log_softmax",
        "log_softmax_backward", "logsumexp", "mean", "nll_loss", "sgd", "softmax",
        "softmax_backward", "sum", "var",
    }
)  # fmt: skip


def refusal(op: Any, inputs: Layouts, outputs: Layouts) -> str | None:
    """Why the kernel of `op.op` cannot take the operands as they are, None if it can."""
    name = op.op.name
    if name not in _NORMS | _GRADIENTS | _OTHERS:
        return f"{name} loads and stores one dtype"
    given = op.cast_inputs([x.spec for x in inputs])
    results = op.op.infer_all(*given)
    if any(spec.dtype.is_floating and spec.dtype is not float32 for spec in (*given, *results)):
        return f"{name} is not in float32"
    if any(x.dtype not in STORED for x in (*inputs, *outputs)):
        return "a dtype that CUDA has no kernels of"
    twice = [place for place, _ in op.again]
    if twice and (name not in _GRADIENTS or twice != [0]):
        return f"{name} writes each result once"
    if name in _NORMS and _several(inputs[1 + name.startswith("add_") :]):
        return "weight and bias of two dtypes"
    if name in _GRADIENTS and _several(outputs[1 : len(results)]):
        return "gradients of weight and bias of two dtypes"
    return None


def _several(vectors: Sequence[Any]) -> bool:
    return len({vector.dtype for vector in vectors}) > 1

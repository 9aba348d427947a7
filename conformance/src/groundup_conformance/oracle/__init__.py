"""The oracle: what every op must compute, in float64, with a budget for every element.

`forward` and `backward` evaluate the reference of an op: a formula written down from the op's
docstring and the literature, apart from any backend and from the core's gradients and compositions.
"""

from __future__ import annotations

from groundup_conformance.budgets import IEEE, WGSL, Expected, Profile, Verdict
from groundup_conformance.oracle import (  # noqa: F401 - importing them registers references
    attention,
    bits,
    casting,
    contraction,
    convolution,
    creation,
    elementwise,
    fusion,
    indexing,
    loss,
    movement,
    normalization,
    optimizer,
    ordering,
    pooling,
    reduction,
)
from groundup_conformance.oracle.evaluation import backward, forward, has_reference
from groundup_conformance.oracle.number import Number
from groundup_conformance.oracle.registry import exact, gradient, moves, reference

__all__ = [
    "IEEE", "WGSL", "Expected", "Number", "Profile", "Verdict", "backward", "exact", "forward",
    "gradient", "has_reference", "moves", "reference",
]  # fmt: skip

"""Kernels of random numbers: random_bits, uniform, normal, dropout."""

from __future__ import annotations

from typing import Any

from groundup.layout import Layout
from groundup_cuda.expressions import STORED
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.source import OUT, Parameters, Stage, stage

_UNIT = "(float)(bits >> 8) * 5.9604644775390625e-08f"  # the upper 24 bits times 2^-24, exact


def lower_random_bits(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """The words as they are."""
    return Lowered([_words(op.name, Parameters(2), inputs[0], outputs[0], "int", "(int)bits")])


def lower_uniform(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """Product and sum are rounded separately, as the op says: never joined to one operation."""
    parameters = Parameters(2)
    value = _UNIT
    if (op.low, op.high) != (0.0, 1.0):
        span, low = (parameters.number(n, "float") for n in (op.high - op.low, op.low))
        value = f"__fadd_rn(__fmul_rn({_UNIT}, {span}), {low})"
    return Lowered([_words(op.name, parameters, inputs[0], outputs[0], "float", value)])


def lower_dropout(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """x is read, and kept or dropped; no mask is stored."""
    parameters = Parameters(3)
    limit, scale = parameters.add(op.threshold), parameters.number(op.scale, "float")
    value = f"(bits >> 8) >= (u32){limit} ? x[word] * {scale} : 0.0f"
    made = _words(op.name, parameters, inputs[1], outputs[0], "float", value, reads=True)
    return Lowered([made], contiguous=(0,))


def lower_normal(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """Four pairs a thread."""
    parameters, (out,) = Parameters(2), outputs
    pairs = (out.size + 1) // 2
    made = stage(
        "normal", op.name, parameters, [OUT, 0], -(-pairs // 4), (out,),
        size=parameters.add(out.size), step=parameters.add(inputs[0].strides[0]),
        deviation=parameters.number(op.std, "float"), mean=parameters.number(op.mean, "float"),
        type=STORED[out.dtype],
    )  # fmt: skip
    return Lowered([made])


def _words(
    op: str, parameters: Parameters, state: Layout, out: Layout, kind: str, value: str, *,
    reads: bool = False,
) -> Stage:  # fmt: skip
    """A `value` of type `kind` for each word; x, if it is read, is the first input."""
    return stage(
        "random", op, parameters, [OUT, 1, 0] if reads else [OUT, 0], -(-out.size // 4), (out,),
        size=parameters.add(out.size), step=parameters.add(state.strides[0]), value=value,
        value_type=kind, type=STORED[out.dtype], reads=str(reads).lower(),
        last=str(2 if reads else 0),
    )  # fmt: skip

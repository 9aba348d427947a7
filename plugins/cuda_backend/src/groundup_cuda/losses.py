"""Kernels of losses over class ids: cross_entropy, its gradient and nll_loss."""

from __future__ import annotations

from typing import Any, Final

from groundup import dtypes
from groundup.layout import Layout
from groundup.shapes import Shape
from groundup_cuda.expressions import STORED
from groundup_cuda.maps import map_stage
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.rows import Sharing, dense, flag, pack
from groundup_cuda.source import OUT, SCRATCH, THREADS, Parameters, Stage, stage, walk
from groundup_cuda.updates import joined

_CHUNK: Final = 8192  # elements that a block of a sum takes
_AHEAD: Final = 4  # loads that a thread has under way, as in the kernels


def lower_cross_entropy(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """A pass over the logits for each row's loss and log-sum-exp; then, if asked, one number."""
    (logits, target), copied = _dense_scores(inputs)
    columns, rows = logits.shape[-1], target.size
    place = OUT if op.reduction == "none" else SCRATCH
    shared = _sharing([logits])
    parameters = Parameters(4)
    kinds = {"losses": _kind(op, outputs[0]), "sums": STORED[outputs[1].dtype]}
    steps = []
    if rows:
        steps.append(stage(
            "cross_entropy", op.name, parameters, [place, OUT - 1, 0, 1], rows * shared.group,
            [logits, target, *outputs], columns=parameters.add(columns),
            rows=parameters.add(rows), ignored=parameters.add(op.ignore_index),
            index=_rows(parameters, logits, target), **_types(logits, target), **kinds,
            **shared.parts(),
        ))  # fmt: skip
    return _reduced(op, steps, target, outputs[0], copied)


def lower_nll(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """nll_loss: one element of each row."""
    scores, target = inputs
    rows = target.size
    place = OUT if op.reduction == "none" else SCRATCH
    parameters = Parameters(3)
    steps = []
    if rows:
        steps.append(stage(
            "nll", op.name, parameters, [place, 0, 1], rows, [scores, target],
            columns=parameters.add(scores.shape[-1]), step=parameters.add(scores.strides[-1]),
            rows=parameters.add(rows), ignored=parameters.add(op.ignore_index),
            index=_rows(parameters, scores, target), losses=_kind(op, outputs[0]),
            **_types(scores, target),
        ))  # fmt: skip
    return _reduced(op, steps, target, outputs[0], ())


def lower_mse(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """mse_loss: each element's square, or the blocks' sums of them and then one number."""
    x, (out,) = inputs[0], outputs
    if op.reduction == "none":
        layouts, square = (out, *inputs), "(a - b) * (a - b)"
        return Lowered([map_stage(op.name, Parameters(3), [OUT, 0, 1], layouts, "ab", square)])
    pack = 16 // x.dtype.itemsize
    blocks = -(-x.size // _CHUNK)
    steps = []
    if blocks:
        parameters = Parameters(3)
        steps.append(stage(
            "mse", op.name, parameters, [SCRATCH, 0, 1], blocks * THREADS, inputs,
            size=parameters.add(x.size), type=STORED[x.dtype], chunk=str(_CHUNK),
            width=str(pack if x.size % pack == 0 else 1),
        ))  # fmt: skip
    divisor = float(x.size) if op.reduction == "mean" else 1.0
    steps.append(joined(op.name, blocks, out, "whole / {}", divisor))
    return Lowered(steps, (0, 1), 4 * max(blocks, 1))


def lower_cross_entropy_backward(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """A stream over the logits; for a mean the rows that count are counted first."""
    inputs, copied = _dense_scores(inputs)
    logits, target, sums, grad, grad_sums = inputs
    columns, rows, mean = logits.shape[-1], target.size, op.reduction == "mean"
    shared = _sharing([logits, outputs[0]])
    pieces = -(-columns // (shared.group * shared.width * _AHEAD))
    operands = [OUT, 0, 1, 2, 3, 4, SCRATCH][: 6 + mean]
    parameters = Parameters(len(operands))
    lead = target.shape
    given = grad.strides if op.reduction == "none" else (0,) * len(lead)
    made = stage(
        "cross_entropy_backward", op.name, parameters, operands, rows * pieces * shared.group,
        [*inputs, *outputs], columns=parameters.add(columns), rows=parameters.add(rows),
        pieces=parameters.add(pieces), ignored=parameters.add(op.ignore_index), mean=flag(mean),
        index=walk(
            parameters, "i", lead, at0=logits.strides[:-1], at1=target.strides, at2=sums.strides,
            at3=given, at4=grad_sums.strides,
        ),
        sums=STORED[sums.dtype], grad=STORED[grad.dtype], grads=STORED[grad_sums.dtype],
        out=STORED[outputs[0].dtype], **_types(logits, target),
        **shared.parts(),
    )  # fmt: skip
    if not mean:
        return Lowered([made], copied)
    counted = _joined(op, target, [SCRATCH, 1, SCRATCH], "float", summed=False)
    return Lowered([counted, made], copied, 4)


def _dense_scores(inputs: Layouts) -> tuple[list[Layout], tuple[int, ...]]:
    """Only the scores are read in packs; all else by strides."""
    scores, copied = dense(inputs[:1])
    return [*scores, *inputs[1:]], copied


def _sharing(scores: Layouts) -> Sharing:
    """A warp for a row that it reads in one go, else a block."""
    width = pack(scores)
    short = scores[0].shape[-1] <= 32 * width * _AHEAD
    return Sharing(32 if short else THREADS, width, _AHEAD)


def _rows(parameters: Parameters, scores: Layout, target: Layout) -> str:
    lead: Shape = target.shape
    return walk(parameters, "i", lead, at0=scores.strides[:-1], at1=target.strides)


def _types(scores: Layout, target: Layout) -> dict[str, str]:
    return {"type": STORED[scores.dtype], "target": STORED[target.dtype]}


def _kind(op: Any, loss: Layout) -> str:
    """The C++ type of the rows' losses: the result's, or float if they are yet to be joined."""
    return STORED[loss.dtype if op.reduction == "none" else dtypes.float32]


def _reduced(
    op: Any, steps: list[Stage], target: Layout, loss: Layout, copied: tuple[int, ...]
) -> Lowered:
    """The rows' losses as they are, or joined to one number."""
    if op.reduction == "none":
        return Lowered(steps, copied)
    joined = _joined(op, target, [OUT, 1, SCRATCH], STORED[loss.dtype], summed=True)
    return Lowered([*steps, joined], copied, 4 * max(target.size, 1))


def _joined(op: Any, target: Layout, operands: list[int], kind: str, *, summed: bool) -> Stage:
    parameters = Parameters(3)
    return stage(
        "class_loss", op.name, parameters, operands, THREADS, [target],
        rows=parameters.add(target.size), ignored=parameters.add(op.ignore_index),
        index=walk(parameters, "i", target.shape, at0=target.strides),
        summed=flag(summed), mean=flag(op.reduction == "mean"),
        target=STORED[target.dtype], type=kind,
    )  # fmt: skip

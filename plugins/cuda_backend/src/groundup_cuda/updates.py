"""Kernels over many tensors at once: adamw, sgd, global_norm and foreach_cast, in as few launches
as there are combinations of dtypes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

from groundup.backends.api import Declined
from groundup.dtypes import DType
from groundup.layout import Layout
from groundup_cuda.expressions import STORED
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.rows import flag
from groundup_cuda.source import OUT, SCRATCH, THREADS, Parameters, Stage, stage

_CHUNK: Final = 2048  # elements of a tensor that a block of an update takes
_NORM_CHUNK: Final = 16384
# 64-bit parameters that a kernel may have: 4 KB, and from Volta on almost 32.
_PARAMETERS, _MORE_PARAMETERS = 512, 4095


def lower_update(
    op: Any, inputs: Layouts, outputs: Layouts, capability: tuple[int, int]
) -> Lowered | Declined:
    """adamw or sgd, gradients of any floating dtype: where parameters and states lie dense, they
    may be updated where they are.
    """
    params, grads, states = op.parts(inputs[3:])
    kinds: dict[tuple[DType, ...], list[int]] = {}
    for i, param in enumerate(params):
        own = tuple(state.dtype for state in states[i :: op.count])
        if len(set(own)) > 1:
            return Declined("its states have several dtypes")
        kinds.setdefault((param.dtype, grads[i].dtype, *own[:1]), []).append(i)
    limit = _most(capability, 6 + 2 * op.states)
    steps = [
        _update(op, inputs, which, kind)
        for kind, members in kinds.items()
        for which in _portions([i for i in members if params[i].size], limit)
    ]
    copied = tuple(range(3, len(inputs)))
    dense = all(x.is_row_major for x in (*params, *states))
    return Lowered(steps, copied, in_place=dict(op.aliases) if dense else {})


def _update(op: Any, inputs: Layouts, which: Sequence[int], kind: tuple[DType, ...]) -> Stage:
    """The launch for those parameters; see optimizer.cu for the order of its numbers."""
    count, states = op.count, op.states
    operands = []
    for i in which:
        operands += [OUT - i - count * k for k in range(1 + states)]
        operands += [3 + i + count * k for k in range(2 + states)]
    parameters = Parameters(len(operands) + 3)
    params = [Layout.contiguous(inputs[3 + i].spec) for i in which]
    blocks = _map_of_blocks(parameters, params, _CHUNK)
    for i in which:
        parameters.number(op.weight_decay[i], "float")
    lr, step, scale = (STORED[x.dtype] for x in inputs[:3])
    return stage(
        "optimizer", op.name, parameters, [*operands, 0, 1, 2], blocks * THREADS, params,
        type=STORED[kind[0]], grad=STORED[kind[1]], state=STORED[kind[-1]], states=str(states),
        lr=lr, step=step, scale=scale, **_sizes(len(which), _CHUNK), **_numbers(op, parameters),
    )  # fmt: skip


def _numbers(op: Any, parameters: Parameters) -> dict[str, str]:
    """The rule and its constants; those of the other rule are not read."""
    adam = op.name == "adamw"
    logs = [math.log(b) if b else -math.inf for b in (op.beta1, op.beta2)] if adam else [0.0, 0.0]
    values = {
        "beta1": op.beta1 if adam else 0.0, "beta2": op.beta2 if adam else 0.0,
        "rest1": 1 - op.beta1 if adam else 0.0, "rest2": 1 - op.beta2 if adam else 0.0,
        "log1": logs[0], "log2": logs[1], "eps": op.eps if adam else 0.0,
        "momentum": 0.0 if adam else op.momentum, "undamped": 0.0 if adam else 1 - op.dampening,
    }  # fmt: skip
    rule = {"adam": flag(adam), "decoupled": flag(adam and op.decoupled)}
    rule["nesterov"] = flag(not adam and op.nesterov)
    return rule | {name: parameters.number(value, "float") for name, value in values.items()}


def lower_global_norm(
    op: Any, inputs: Layouts, outputs: Layouts, capability: tuple[int, int]
) -> Lowered:
    """Each block's sum of squares, and then the root of their sum."""
    steps, first = [], 0
    for kind, members in _by_dtype(inputs).items():
        for which in _portions(members, _most(capability, 3)):
            parameters = Parameters(1 + len(which))
            tensors = [Layout.contiguous(inputs[i].spec) for i in which]
            blocks = _map_of_blocks(parameters, tensors, _NORM_CHUNK)
            steps.append(stage(
                "norm_of_all", op.name, parameters, [SCRATCH, *which], blocks * THREADS, tensors,
                type=STORED[kind], first=parameters.add(first), **_sizes(len(which), _NORM_CHUNK),
            ))  # fmt: skip
            first += blocks
    steps.append(joined(op.name, first, outputs[0], "sqrt(whole)"))
    return Lowered(steps, tuple(range(len(inputs))), 4 * max(first, 1))


def lower_foreach_cast(
    op: Any, inputs: Layouts, outputs: Layouts, capability: tuple[int, int]
) -> Lowered:
    """Each tensor as it lies, in another dtype."""
    steps, kinds = [], _by_dtype(inputs)
    width = 16 // max(op.dtype.itemsize, *[kind.itemsize for kind in kinds])
    for kind, members in kinds.items():
        for which in _portions(members, _most(capability, 4)):
            parameters = Parameters(2 * len(which))
            tensors = [Layout.contiguous(inputs[i].spec) for i in which]
            blocks = _map_of_blocks(parameters, tensors, _CHUNK)
            operands = [*[OUT - i for i in which], *which]
            steps.append(stage(
                "casts", op.name, parameters, operands, blocks * THREADS, tensors,
                type=STORED[kind], out=STORED[op.dtype], width=str(width),
                **_sizes(len(which), _CHUNK),
            ))  # fmt: skip
    return Lowered(steps, tuple(range(len(inputs))))


def _by_dtype(tensors: Layouts) -> dict[DType, list[int]]:
    """Which of them are not empty, for each dtype."""
    kinds: dict[DType, list[int]] = {}
    for i, x in enumerate(tensors):
        if x.size:
            kinds.setdefault(x.dtype, []).append(i)
    return kinds


def joined(name: str, blocks: int, out: Layout, value: str, divisor: float = 1.0) -> Stage:
    """The last launch of two: a `value` of the `whole` sum of what blocks have left in scratch
    memory, with `divisor` where it has braces.
    """
    parameters = Parameters(2)
    value = value.format(parameters.number(divisor, "double"))
    return stage(
        "root", name, parameters, [OUT, SCRATCH], THREADS, (out,), size=parameters.add(blocks),
        type=STORED[out.dtype], value=value,
    )  # fmt: skip


def _map_of_blocks(parameters: Parameters, tensors: Layouts, chunk: int) -> int:
    """All sizes, then the first block of each tensor. Returns the number of blocks."""
    for x in tensors:
        parameters.add(x.size)
    ends = list(accumulate((-(-x.size // chunk) for x in tensors), initial=0))
    for start in ends[:-1]:
        parameters.add(start)
    return ends[-1]


def _sizes(tensors: int, chunk: int) -> dict[str, str]:
    """`bisection`: the step that the search for a tensor begins with."""
    begin = 1 << (tensors - 1).bit_length() >> 1
    return {"tensors": str(tensors), "bisection": str(begin), "chunk": str(chunk)}


def _most(capability: tuple[int, int], each: int) -> int:
    """Tensors that a launch can be given; `each` takes so many parameters, and all take 16."""
    return ((_MORE_PARAMETERS if capability >= (7, 0) else _PARAMETERS) - 16) // each


def _portions(members: Sequence[int], limit: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(members), limit):
        yield members[start : start + limit]

"""Elementwise kernels whose value depends on the element's place or on numbers of the op: clamp,
tril, triu, one_hot, and the state of the next random draw.
"""

from __future__ import annotations

from typing import Any

from groundup.layout import Layout
from groundup_cuda.expressions import STORED, computed
from groundup_cuda.maps import map_stage
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.source import OUT, Parameters, stage, walk


def lower_clamp(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """NaN passes both comparisons."""
    (x,) = inputs
    parameters, value, kind = Parameters(2), "a", computed(x.dtype)
    if op.min is not None:
        value = f"maximum({value}, ({kind}){parameters.number(op.min, kind)})"
    if op.max is not None:
        value = f"minimum({value}, ({kind}){parameters.number(op.max, kind)})"
    return Lowered([map_stage("clamp", parameters, [OUT, 0], (*outputs, x), "a", value)])


def lower_triangle(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """tril or triu: by how far the column lies behind the row."""
    (x,) = inputs
    parameters = Parameters(2)
    ahead = (*(0,) * (x.rank - 2), -1, 1)
    index = walk(parameters, "i", x.shape, at0=x.strides, ahead=ahead)
    inside = f"ahead {'<=' if op.name == 'tril' else '>='} {parameters.add(op.diagonal)}"
    read = f"load(((const {STORED[x.dtype]} *)p.v[1])[at0])"
    value = f"{inside} ? {read} : ({computed(x.dtype)})0"
    return _placed(op.name, parameters, index, value, (*outputs, x))


def lower_one_hot(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """Whether an element's class is the one that its index names."""
    (indices,) = inputs
    parameters = Parameters(2)
    chosen, classes = (*indices.strides, 0), (*(0,) * indices.rank, 1)
    index = walk(parameters, "i", outputs[0].shape, at0=chosen, own=classes)
    read = f"(long long)((const {STORED[indices.dtype]} *)p.v[1])[at0]"
    return _placed(op.name, parameters, index, f"{read} == own ? 1.0f : 0.0f", (*outputs, indices))


def lower_advance_state(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """The draw counter, words 2 and 3, grows by one."""
    (state,) = inputs
    parameters = Parameters(2)
    index = walk(parameters, "i", (4,), at0=state.strides)
    word = "((const int *)p.v[1])"
    low = f"{word}[2 * {parameters.add(state.strides[0])}]"
    value = f"add({word}[at0], i == 2 || (i == 3 && {low} == -1) ? 1 : 0)"
    return _placed(op.name, parameters, index, value, (*outputs, state))


def _placed(name: str, parameters: Parameters, index: str, value: str, layouts: Layouts) -> Lowered:
    """One thread per element of a row-major output."""
    out: Layout = layouts[0]
    made = stage(
        "map", name, parameters, [OUT, 0], out.size, layouts, index=index, place="i",
        size=parameters.add(out.size), value=value, out=STORED[out.dtype],
    )  # fmt: skip
    return Lowered([made])

"""Random bits, uniform and normal numbers from them, and the next state of the generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from groundup.dtypes import float32
from groundup.layout import Layout
from groundup_webgpu.machine import Machine
from groundup_webgpu.maps import each_element
from groundup_webgpu.source import OUT, SCRATCH, STORED, Parameters, Stage, spread

Layouts = Sequence[Layout]
_ITEM: Final = 4  # bytes of a number in scratch memory
_UNIT: Final = "f32(word >> 8u) * 5.9604644775390625e-8"  # exact


def advance_state(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage]:
    """One thread, so the state can be changed where it is."""
    parameters = Parameters(2)
    parts = {"step0": parameters.add(inputs[0].strides[0])}
    values, memory = tuple(parameters.values), ((OUT, "i32"), (1, "i32"))
    return [Stage("advance_state", parts, values, memory, (1, 1, 1))]


def random_bits(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage]:
    """Four words a thread."""
    (state,), (out,) = inputs, outputs
    return [_drawn(state, out, OUT, "bitcast<i32>(word)", Parameters(2))] if out.size else []


def uniform(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage]:
    """One dispatch for [0, 1). Else two, as product and sum round apart: compilers may round once
    what stands in one.
    """
    (state,), (out,) = inputs, outputs
    if not out.size:
        return []
    if (op.low, op.high) == (0.0, 1.0):
        return [_drawn(state, out, OUT, _UNIT, Parameters(2))]
    wide = Layout(out.shape, out.strides, float32)
    parameters = Parameters(2)
    value = f"{_UNIT} * {parameters.number(op.high - op.low, float32)}"
    stretched = _drawn(state, wide, SCRATCH, value, parameters)
    parameters = Parameters(2)
    value = f"load0(param(1u) + i) + {parameters.number(op.low, float32)}"
    index = "    let place = param(0u) + i;"
    return [stretched, each_element(parameters, [(SCRATCH, wide)], out, index, value)]


def normal(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage]:
    """One dispatch, two numbers a thread."""
    (state,), (out,) = inputs, outputs
    if not out.size:
        return []
    pairs = -(-out.size // 2)
    parameters = Parameters(2)
    parts = {
        "size": parameters.add(out.size), "pairs": parameters.add(pairs),
        "state_step": parameters.add(state.strides[0]),
        "std": parameters.number(op.std, float32), "mean": parameters.number(op.mean, float32),
    }  # fmt: skip
    memory = ((OUT, STORED[out.dtype]), (1, "i32"))
    values, groups = tuple(parameters.values), spread(pairs)
    return [Stage("normal", parts, values, memory, groups, includes=("philox",))]


def _drawn(state: Layout, out: Layout, target: int, value: str, parameters: Parameters) -> Stage:
    """One `value` of a random `word` for each element, in order."""
    parts = {
        "size": parameters.add(out.size), "state_step": parameters.add(state.strides[0]),
        "value": value,
    }  # fmt: skip
    memory = ((target, STORED[out.dtype]), (1, "i32"))
    scratch = _ITEM * out.size if target == SCRATCH else 0
    values, groups = tuple(parameters.values), spread(-(-out.size // 4))
    return Stage("random", parts, values, memory, groups, scratch, includes=("philox",))

"""Every op in the registry has all its parts, and a kernel on the CPU reference."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from groundup import support
from groundup.backends.devices import device_for
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Layout
from groundup.ops import REGISTRY, Cost, Op
from groundup.ops.lower import find_kernel, lower
from groundup.ops.op import has
from groundup.ops.samples import Case, bad_cases_of, cases_of
from groundup_cpu_ref.native import NATIVE, CpuKernel

NAMES = sorted(name for name in REGISTRY if "::" not in name)

# Ops that the CPU reference has no kernel for, each with its reason.
COMPOSED_ON_CPU = {
    "einsum": "it is a plan of reshapes and matmuls, which have kernels",
    "foreach_cast": "a launch costs less here than a cast",
    "recast": "casts and op are planned each by itself, in memory that is reused",
}

FIXED_SIZE = {"advance_state": "it takes a random state, int32[4], and gives the next"}


def first_case(op: type[Op]) -> Case:
    return cases_of(op, op.dtypes[0])[0]


def specs(case: Case) -> list[Layout]:
    return [support._layout(operand.array) for operand in case.inputs]


@pytest.mark.parametrize("name", NAMES)
def test_parts(name: str) -> None:
    op = REGISTRY[name]
    assert op.name == name
    assert op.name.isidentifier()
    assert op.name.islower()
    assert op.family
    assert inspect.getdoc(op)
    assert op.dtypes
    made = first_case(op).op
    assert all(0 <= i < len(made.outputs) for i in made.differentiable)


@pytest.mark.parametrize("name", NAMES)
def test_cases_have_ids_of_their_own(name: str) -> None:
    op = REGISTRY[name]
    for dtype in op.dtypes:
        ids = [case.id for case in cases_of(op, dtype)]
        assert ids
        assert len(set(ids)) == len(ids), sorted(ids)


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_reproducible(name: str) -> None:
    op = REGISTRY[name]
    for dtype in op.dtypes:
        for first, second in zip(cases_of(op, dtype), cases_of(op, dtype), strict=True):
            assert first.op is second.op
            assert first.id == second.id
            assert first.tags == second.tags
            for a, b in zip(first.inputs, second.inputs, strict=True):
                assert a.array.dtype == b.array.dtype
                assert a.array.tobytes() == b.array.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_samples_cover_the_edges(name: str) -> None:
    """Whatever takes arrays of any size must be tried on none, and on views."""
    op = REGISTRY[name]
    if not op.inputs or op.variadic:
        return
    cases = cases_of(op, op.dtypes[0])
    arrays = [operand.array for case in cases for operand in case.inputs]
    results = [
        spec
        for case in cases
        if not op.broadcasts
        for spec in case.op.infer_all(*[layout.spec for layout in specs(case)])
    ]
    if name not in FIXED_SIZE:
        assert any(x.size == 0 for x in (*arrays, *results)), "nothing is empty"
    if any(array.ndim > 1 for array in arrays):
        assert any(not array.flags.c_contiguous for array in arrays), "no view"


@pytest.mark.parametrize("name", NAMES)
def test_cost_is_counted(name: str) -> None:
    op = REGISTRY[name]
    for case in cases_of(op, op.dtypes[0]):
        cost = case.op.cost(*[layout.spec for layout in specs(case)])
        assert isinstance(cost, Cost)
        assert isinstance(cost.flops, int)
        assert isinstance(cost.bytes, int)
        assert cost.flops >= 0
        assert cost.bytes >= 0


@pytest.mark.parametrize("name", NAMES)
def test_aliases_fit(name: str) -> None:
    """An output takes over the memory of an input only if it is as large."""
    case = first_case(REGISTRY[name])
    inputs = [layout.spec for layout in specs(case)]
    outs = case.op.infer_all(*inputs)
    for output, index in case.op.aliases.items():
        assert outs[output] is inputs[index]


def test_what_the_cpu_composes() -> None:
    device = device_for("cpu")
    composed = {name for name in NAMES if support.status(REGISTRY[name], device) != "native"}
    assert composed == COMPOSED_ON_CPU.keys() & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_kernels_know_every_parameter(name: str) -> None:
    """A kernel that ignores a parameter would be passed over where that is not its default."""
    op = REGISTRY[name]
    if name in NATIVE:
        assert NATIVE[name].params == set(op.fields)


def test_every_kernel_belongs_to_an_op() -> None:
    assert {name for name in NATIVE if "::" not in name} - set(NAMES) == set()


@pytest.mark.parametrize("name", NAMES)
def test_every_sample_finds_a_kernel(name: str) -> None:
    """Not only the first: no shape, dtype or parameter of a sample falls back to a composition."""
    op, device = REGISTRY[name], device_for("cpu")
    if has(op, "view") or name in COMPOSED_ON_CPU:
        return
    for dtype in op.dtypes:
        for case in cases_of(op, dtype):
            inputs = support._settled(case.op, specs(case))
            found = find_kernel(case.op, inputs, support._outputs(case.op, inputs), device)
            assert isinstance(found, CpuKernel), f"{case.id} [{dtype}]: {found}"
            lower(case.op, inputs, device)


@pytest.mark.parametrize("name", NAMES)
def test_refusals_are_reproducible(name: str) -> None:
    op = REGISTRY[name]
    cases = bad_cases_of(op, op.dtypes[0])
    assert all(case.text for case in cases)
    if op.inputs and not op.broadcasts:
        assert cases or len(op.inputs) < 2, (
            "several inputs can always disagree: show how it refuses"
        )


def test_samples_are_arrays_of_the_dtype_that_was_asked_for() -> None:
    for name in NAMES:
        op = REGISTRY[name]
        for dtype in op.dtypes:
            used = {o.array.dtype for case in cases_of(op, dtype) for o in case.inputs}
            assert not op.inputs or dtype.numpy in used | {np.dtype(np.int32)}, (name, dtype)


def test_numbers_among_the_parameters_are_pythons() -> None:
    assert REGISTRY["softmax"](axis=np.int64(1)) is REGISTRY["softmax"](axis=1)
    assert REGISTRY["layer_norm"](eps=np.float64(0.5)) is REGISTRY["layer_norm"](eps=0.5)
    assert REGISTRY["clamp"](min=np.float32(0.5)) is REGISTRY["clamp"](min=0.5)
    assert REGISTRY["argmax"](axis=None) is REGISTRY["argmax"]()


@pytest.mark.parametrize(
    ("name", "parameters", "text"),
    [
        ("topk", {"k": 2.5}, "topk: k must be an integer, got 2.5"),
        ("tril", {"diagonal": 0.5}, "tril: diagonal must be an integer, got 0.5"),
        ("softmax", {"axis": [0]}, r"softmax: axis must be an integer, got \[0\]"),
        ("argmax", {"axis": "x"}, "argmax: axis must be an integer, got 'x'"),
        ("layer_norm", {"eps": "x"}, "layer_norm: eps must be a number, got a str"),
        ("clamp", {"max": (1, 2)}, "clamp: max must be a number, got a tuple"),
    ],
)
def test_what_is_no_number_is_refused_where_one_belongs(
    name: str, parameters: dict[str, Any], text: str
) -> None:
    with pytest.raises((ShapeError, DTypeError), match=text):
        REGISTRY[name](**parameters)

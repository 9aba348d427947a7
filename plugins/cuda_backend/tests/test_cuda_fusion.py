"""Fused bodies in CUDA C++: what they print, and that every expression compiles inside one."""

from __future__ import annotations

from typing import Any, Final

import pytest

from groundup.backends.api import Declined
from groundup.dtypes import as_dtype, bool_, float32, int32
from groundup.errors import BackendUnavailable
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup.ops.fusion import Body, Fused, is_fusible
from groundup_cuda.expressions import expression
from groundup_cuda.jit import nvrtc
from groundup_cuda.lowering import lower
from groundup_cuda.source import Stage, prelude

SHAPE: Final = (5, 33)


def stage_of(op: Fused, *layouts: Layout) -> Stage:
    out = Layout.contiguous(op.infer(*[layout.spec for layout in layouts]))
    lowered = lower(op, layouts, (out,), (9, 0))
    assert not isinstance(lowered, Declined), lowered
    (stage,) = lowered.steps
    assert isinstance(stage, Stage)
    return stage


def dense(dtype: Any) -> Layout:
    return Layout.contiguous(Spec(SHAPE, as_dtype(dtype)))


def body_of(name: str) -> Body:
    """The op behind another one, its result back to floats."""
    count = len(REGISTRY[name].inputs)
    steps: list[Any] = [("abs", (), (0,)), (name, (), (~0, 1)[:count])]
    if REGISTRY[name]().infer_all(*[Spec((1,), float32)] * count)[0].dtype is bool_:
        steps.append(("where", (), (~1, 0, ~0)))
    steps.append(("mul", (), (~(len(steps) - 1), 1)))
    return tuple(steps)


def test_a_body_is_a_statement_a_step() -> None:
    body = (("mul", (), (0, 1)), ("add", (), (~0, (0.5,))), ("where", (), (2, ~1, ~0)))
    source = stage_of(Fused(body=body), dense("float16"), dense("float16"), dense("bool")).source
    lines = [line.strip() for line in source.splitlines()]
    start = lines.index("const float x0 = load(((const half_t *)p.v[1])[at0]);")
    assert lines[start + 1 : start + 6] == [
        "const float x1 = load(((const half_t *)p.v[2])[at1]);",
        "const bool x2 = load(((const bool *)p.v[3])[at2]);",
        "const float t0 = mul(x0, x1);",
        "const float t1 = add(t0, number<float>(p.v[4]));",
        "store(((half_t *)p.v[0])[place], x2 ? t1 : t0);",
    ]


def test_numbers_are_parameters_and_not_text() -> None:
    """So a learning rate that changes compiles no new kernel."""
    stages = [stage_of(Fused(body=(("mul", (), (0, (n,))),)), dense("float32")) for n in (0.5, 2.0)]
    assert stages[0].source == stages[1].source
    assert stages[0].parameters != stages[1].parameters


def test_what_has_no_expression_is_declined() -> None:
    body = (("clamp", (("min", 0), ("max", 1)), (0,)), ("neg", (), (~0,)))
    found = lower(Fused(body=body), (dense("float32"),), (dense("float32"),), (9, 0))
    assert isinstance(found, Declined)
    assert "clamp" in found.reason


def test_every_expression_compiles_inside_a_body() -> None:
    try:
        compiler = nvrtc()
    except BackendUnavailable as error:
        pytest.skip(str(error))
    names = [
        name for name, op in REGISTRY.items()
        if is_fusible(op) and name not in ("where", "cast") and expression(name, float32)
    ]  # fmt: skip
    assert len(names) > 35
    stages = [stage_of(Fused(body=body_of(name)), *[dense("float32")] * 2) for name in names]
    integers = (("mul", (), (0, (3,))), ("bitwise_xor", (), (~0, 1)))
    stages.append(stage_of(Fused(body=integers), dense(int32), dense(int32)))
    known = {stage.name: stage.source for stage in stages}
    code = compiler.compile("\n".join([prelude(), *known.values()]), "sm_90")
    assert all(name.encode() in code for name in known)

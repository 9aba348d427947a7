"""Elementwise fusion: the listing before and after, and what must not be fused."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup.errors import ProgramError
from groundup.ops.fusion import MAX_INPUTS, MAX_STEPS, Fused
from groundup.program import saved
from groundup.program.passes import EXACT
from groundup.program.passes.fusion import fuse_elementwise
from groundup.program.program import Node, Program, Value, verify
from groundup.tensor import Tensor


def exact(function: Callable[..., Any], *args: Any) -> Program:
    return gu.compile(function, passes=EXACT).trace(*args).executable.program


def fused(function: Callable[..., Any], *args: Any) -> Program:
    return verify(fuse_elementwise(exact(function, *args)))


def titles(program: Program) -> list[str]:
    return [getattr(node.op, "title", node.op.name) for node in program.nodes if not node.is_view]


def test_a_chain_is_one_op() -> None:
    program = exact(lambda x, y: (x * y + 1.0).tanh().exp(), gu.ones(2, 3), gu.ones(3))
    assert (
        str(program)
        == dedent(
            """
        inputs    %0 x: float32[2, 3]
        inputs    %1 y: float32[3]
        setup
          %2: float32[] = full(shape=(), value=1.0, dtype=groundup.float32)
          %3: float32[2, 3] strides (0, 0) = view(%2, shape=(2, 3), offset=0)
        nodes
          %4: float32[2, 3] strides (0, 1) = view(%1, shape=(2, 3), offset=0)
          %5: float32[2, 3] = mul(%0, %4)
          %6: float32[2, 3] = add(%5, %3)
          %7: float32[2, 3] = tanh(%6)
          %8: float32[2, 3] = exp(%7)
        outputs   %8
        """
        ).strip()
    )
    assert (
        str(verify(fuse_elementwise(program)))
        == dedent(
            """
        inputs    %0 x: float32[2, 3]
        inputs    %1 y: float32[3]
        nodes
          %2: float32[2, 3] strides (0, 1) = view(%1, shape=(2, 3), offset=0)
          %3: float32[2, 3] = fused[exp(tanh(add(mul(a, b), 1.0)))](%0, %2)
        outputs   %3
        """
        ).strip()
    )


def test_what_is_used_twice_is_computed_once() -> None:
    program = fused(lambda x: (lambda y: y / (y + 1.0))(x.exp()), gu.ones(3))
    assert titles(program) == ["fused[t0 = exp(a); div(t0, add(t0, 1.0))]"]


def test_through_reshapes() -> None:
    def function(x: Tensor) -> Tensor:
        return (x.exp().reshape(2, 6) - 1.0).reshape(3, 4).tanh()

    program = fused(function, gu.ones(12))
    assert titles(program) == ["fused[tanh(sub(exp(a), 1.0))]"]
    turned = fused(lambda x: (x.exp().mT - 1.0).tanh(), gu.ones(3, 4))
    assert titles(turned) == ["exp", "fused[tanh(sub(a, 1.0))]"]


def test_numbers_keep_their_signs_and_kinds() -> None:
    program = fused(lambda x: x.exp() * 0.0 - x.exp() * -0.0, gu.ones(3))
    assert titles(program) == ["fused[t0 = exp(a); sub(mul(t0, 0.0), mul(t0, -0.0))]"]
    program = fused(lambda n: (n + 1) * 3, gu.arange(3))
    assert titles(program) == ["fused[mul(add(a, 1), 3)]"]


def test_results_and_other_readers_end_a_body() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        y = x.exp()
        z = (x + 1.0).sin()
        return y, y * 2.0, z.sum(), z * 3.0

    found = titles(fused(function, gu.ones(3)))
    assert found == ["exp", "fused[sin(add(a, 1.0))]", "mul", "sum", "mul"]


def test_rounding_to_a_narrower_float_ends_a_body() -> None:
    def function(x: Tensor) -> Tensor:
        return (x * 2.0).astype("float16").astype("float32") + 1.0

    found = titles(fused(function, gu.ones(3)))
    assert found == [
        "fused[cast(mul(a, 2.0), dtype=groundup.float16)]",
        "fused[add(cast(a, dtype=groundup.float32), 1.0)]",
    ]


def test_bodies_are_bounded() -> None:
    def long(x: Tensor) -> Tensor:
        for _ in range(3 * MAX_STEPS):
            x = x.tanh()
        return x

    def wide(*x: Tensor) -> Tensor:
        total = x[0]
        for each in x[1:]:
            total = total * each
        return total

    ops = [node.op for node in fused(long, gu.ones(3)).nodes]
    assert [len(op.body) for op in ops if isinstance(op, Fused)] == [MAX_STEPS] * 3
    program = fused(wide, *[gu.ones(3)] * (2 * MAX_INPUTS))
    assert max(len(node.inputs) for node in program.nodes) == MAX_INPUTS
    assert len(program.nodes) == 3


def test_nothing_is_kept_longer_for_a_body() -> None:
    """An early sum of two large arrays, read late by one op, is not delayed."""

    def function(x: Tensor) -> Tensor:
        early = x.flip(0).clone().sqrt() * x.mT.clone().sqrt()  # of values that end here
        y = x.sum()
        for _ in range(20):
            y = y.exp().sum()
        return early.tanh() + y

    x = gu.ones(400, 400)
    assert titles(fused(function, x))[2] == "fused[mul(sqrt(a), sqrt(b))]"


def test_state_is_not_read_after_its_new_value() -> None:
    """Or that could not lie in its memory: the copy would cost more than fusion saves."""
    state = gu.ones(4, 4)

    def function(x: Tensor) -> Tensor:
        old = state * 2.0
        state.assign_(x.exp())
        y = (state @ x).sum()
        for _ in range(3):
            y = y + state.sum()
        return old.exp() + y

    run = gu.compile(function)
    x = gu.ones(4, 4)
    assert np.isfinite(run(x).numpy()).all()
    plan = run.entries[0].executable.plan
    effects = run.programs[0].effects
    assert [plan.homes.get(effect.value) for effect in effects] == [effects[0].target]


def test_the_new_state_lies_in_the_old() -> None:
    count = gu.zeros(3)
    run = gu.compile(lambda x: count.assign_((count + x) * 2.0))
    for _ in range(3):
        run(gu.ones(3))
    assert count.tolist() == [14, 14, 14]
    assert len(run.entries[0].executable.launches) == 1


def test_a_fused_program_is_saved_and_loaded(tmp_path: Any) -> None:
    run = gu.compile(lambda x: (x * -0.0 + float("inf")).clamp(-1, 2).astype("float16"))
    x = gu.randn(5)
    wanted = run(x)
    run.save(tmp_path / "program.safetensors")
    loaded = saved.load(tmp_path / "program.safetensors")
    assert str(loaded.program.nodes) == str(run.programs[0].nodes)
    np.testing.assert_array_equal(loaded(x).numpy(), wanted.numpy())


def test_a_wrong_body_is_a_typed_error() -> None:
    program = fused(lambda x: (x + 1.0).exp(), gu.ones(3))
    (node,) = program.nodes
    wrong = Node(Fused(body=(("sum", (), (0,)),)), node.inputs, node.outputs)
    nodes = (wrong, *[Node(node.op, wrong.outputs, (Value(node.outputs[0].layout),))])
    with pytest.raises(Exception, match="sum is no elementwise op"):
        verify(Program(program.inputs, (), nodes, nodes[1].outputs))
    mixed = Fused(body=(("add", (), (0, 1)),))
    pair = exact(lambda x, n: (x.exp(), n + 1), gu.ones(3), gu.arange(3))
    bad = Node(mixed, pair.inputs, (Value(pair.inputs[0].layout),))
    with pytest.raises(ProgramError, match="wants one dtype"):
        verify(Program(pair.inputs, (), (bad,), bad.outputs))

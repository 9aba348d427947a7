"""Each pass on a small program: the listing before and after."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest

import groundup as gu
from groundup.backends import plugins
from groundup.errors import PluginError, ProgramError
from groundup.program import passes
from groundup.program.passes import optimize
from groundup.program.passes.copies import remove_copies
from groundup.program.passes.dead_code import remove_dead_code
from groundup.program.passes.identities import apply_identities
from groundup.program.passes.setup import move_to_setup
from groundup.program.passes.subexpressions import merge_subexpressions
from groundup.program.program import Program, verify
from groundup.tensor import Tensor


def traced(function: Callable[..., Any], *args: Any) -> Program:
    run = gu.compile(function)
    run(*args)
    return run.entries[0].traced


def check(program: Program, each: Any, before: str, after: str) -> None:
    assert str(program) == dedent(before).strip()
    assert str(verify(each(program))) == dedent(after).strip()


def test_dead_code() -> None:
    unused = gu.ones(2)

    def function(x: Tensor) -> Tensor:
        (x * unused).exp()
        return x.neg() if hasattr(x, "neg") else -x

    check(
        traced(function, gu.ones(2)),
        remove_dead_code,
        """
        inputs    %0 x: float32[2]
        captured  %1: float32[2]
        nodes
          %2: float32[2] = mul(%0, %1)
          %3: float32[2] = exp(%2)
          %4: float32[2] = neg(%0)
        outputs   %4
        """,
        """
        inputs    %0 x: float32[2]
        nodes
          %1: float32[2] = neg(%0)
        outputs   %1
        """,
    )


def test_common_subexpressions() -> None:
    check(
        traced(lambda x: (x + x).exp() * (x + x).exp(), gu.ones(2)),
        lambda program: remove_dead_code(merge_subexpressions(program)),
        """
        inputs    %0 x: float32[2]
        nodes
          %1: float32[2] = add(%0, %0)
          %2: float32[2] = exp(%1)
          %3: float32[2] = add(%0, %0)
          %4: float32[2] = exp(%3)
          %5: float32[2] = mul(%2, %4)
        outputs   %5
        """,
        """
        inputs    %0 x: float32[2]
        nodes
          %1: float32[2] = add(%0, %0)
          %2: float32[2] = exp(%1)
          %3: float32[2] = mul(%2, %2)
        outputs   %3
        """,
    )


def test_constants_are_made_once() -> None:
    check(
        traced(lambda x: x + gu.arange(3).astype("float32").exp(), gu.ones(3)),
        move_to_setup,
        """
        inputs    %0 x: float32[3]
        nodes
          %1: int32[3] = arange(start=0, step=1, count=3, dtype=groundup.int32)
          %2: float32[3] = cast(%1, dtype=groundup.float32)
          %3: float32[3] = exp(%2)
          %4: float32[3] = add(%0, %3)
        outputs   %4
        """,
        """
        inputs    %0 x: float32[3]
        setup
          %1: int32[3] = arange(start=0, step=1, count=3, dtype=groundup.int32)
          %2: float32[3] = cast(%1, dtype=groundup.float32)
          %3: float32[3] = exp(%2)
        nodes
          %4: float32[3] = add(%0, %3)
        outputs   %4
        """,
    )


def test_large_constants_stay() -> None:
    program = traced(lambda x: x + gu.zeros(300, 300), gu.ones(300, 300))
    assert move_to_setup(program).setup == ()


def test_copies_and_whole_views() -> None:
    state = gu.ones(2, 3)

    def function(x: Tensor) -> Tensor:
        state[:] = x.clone()
        state[0] = x[1]
        return state.reshape(3, 2).reshape(2, 3).clone().mT.clone()

    check(
        traced(function, gu.ones(2, 3)),
        remove_copies,
        """
        inputs    %0 x: float32[2, 3]
        captured  %1: float32[2, 3]
        nodes
          %2: float32[2, 3] = contiguous(%0)
          %3: float32[3] = view(%0, shape=(3,), offset=3)
          %4: float32[2, 3] = put_view(%2, %3, shape=(3,), offset=0)
          %5: float32[2, 3] = contiguous(%4)
          %6: float32[3, 2] strides (1, 3) = view(%5, shape=(3, 2), offset=0)
          %7: float32[3, 2] = contiguous(%6)
        outputs   %7
        effects   %1 <- %4
        """,
        """
        inputs    %0 x: float32[2, 3]
        captured  %1: float32[2, 3]
        nodes
          %2: float32[3] = view(%0, shape=(3,), offset=3)
          %3: float32[2, 3] = put_view(%0, %2, shape=(3,), offset=0)
          %4: float32[3, 2] strides (1, 3) = view(%3, shape=(3, 2), offset=0)
          %5: float32[3, 2] = contiguous(%4)
        outputs   %5
        effects   %1 <- %3
        """,
    )


def test_exact_identities() -> None:
    def exact(x: Tensor) -> Tensor:
        return -(-(((x * 1.0 / 1.0) ** 1.0 - 0.0) + -0.0)).relu().relu()

    def nearly(x: Tensor) -> Tensor:
        return ((x + 0.0) - -0.0) * 0.0

    program = remove_dead_code(apply_identities(traced(exact, gu.ones(2))))
    assert [node.op.name for node in program.nodes] == ["neg", "relu", "neg"]
    program = remove_dead_code(apply_identities(traced(nearly, gu.ones(2))))
    assert [n.op.name for n in program.nodes if not n.is_view and n.inputs] == ["add", "sub", "mul"]


def test_identities_of_integers_and_casts() -> None:
    def function(n: Tensor) -> Tensor:
        same = (n + 0) * 1 - 0
        return (n > 2).where(same, n)

    program = remove_dead_code(apply_identities(traced(function, gu.arange(4))))
    assert [n.op.name for n in program.nodes if not n.is_view and n.inputs] == []
    assert program.outputs == program.inputs


def test_an_identity_does_not_change_the_layout_that_kernels_see() -> None:
    program = apply_identities(traced(lambda x: (x.mT * 1.0).sum(), gu.ones(2, 3)))
    assert "mul" in str(program)


def test_a_broken_pass_is_named() -> None:
    program = traced(lambda x: x * x, gu.ones(2))

    def drop(program: Program) -> Program:
        return gu.program.passes.rewriting.Rewriter().program(program, [])

    with pytest.raises(ProgramError, match=r"after the pass drop: .* is never made"):
        optimize(program, [drop])
    with pytest.raises(ProgramError, match="the pass <lambda> gave NoneType"):
        optimize(program, [lambda program: None])


def test_passes_of_plugins_run_last_and_are_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(program: Program) -> Program:
        seen.append([node.op.name for node in program.nodes])
        return program

    def bad(program: Program) -> Program:
        raise ZeroDivisionError("oh")

    given: list[Any] = [[look]]
    monkeypatch.setattr(
        plugins.Plugins,
        "call",
        lambda self, hook, **_: [plugins.Answer("mine", "dist", each) for each in given],
    )
    run = gu.compile(lambda x: (x + x) * 1.0)
    assert run(gu.ones(2)).tolist() == [2, 2]
    assert seen == [["add"]]
    given[0] = [bad]
    with pytest.raises(PluginError, match="mine: bad: ZeroDivisionError: oh"):
        gu.compile(lambda x: x + x)(gu.ones(2))
    assert passes.plugin_passes() == [("mine", bad)]

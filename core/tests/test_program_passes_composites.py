"""Constants, views, composites and recomputation: the listing before and after each pass."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import nn, ops, optim
from groundup.program.passes import EXACT, PASSES
from groundup.program.passes.composites import recognize_composites
from groundup.program.passes.copies import remove_copies
from groundup.program.passes.dead_code import remove_dead_code
from groundup.program.passes.folding import fold_constants
from groundup.program.passes.recomputation import recompute_cheap_values
from groundup.program.passes.setup import move_to_setup
from groundup.program.passes.subexpressions import merge_subexpressions
from groundup.program.passes.windows import simplify_views
from groundup.program.program import Program, verify
from groundup.tensor import Tensor


def traced(function: Callable[..., Any], *args: Any) -> Program:
    return gu.compile(function).trace(*args).traced


def after(program: Program, *passes: Any) -> str:
    for each in passes:
        program = verify(each(program))
    return str(program)


def listing(text: str) -> str:
    return dedent(text).strip()


def kinds(program: Program) -> list[str]:
    return [node.op.name for node in program.nodes if not node.is_view]


def compiled(function: Callable[..., Any], *args: Any, passes: Any = PASSES) -> Program:
    return gu.compile(function, passes=passes).trace(*args).executable.program


# ---- constants and views ----


def test_arithmetic_on_numbers_is_done_at_once() -> None:
    program = traced(lambda x: x * (gu.full((3,), 0.5) * 4.0 - 1.0), gu.ones(2, 3))
    assert str(program) == listing(
        """
        inputs    %0 x: float32[2, 3]
        nodes
          %1: float32[3] = full(shape=(3,), value=0.5, dtype=groundup.float32)
          %2: float32[] = full(shape=(), value=4.0, dtype=groundup.float32)
          %3: float32[3] strides (0,) = view(%2, shape=(3,), offset=0)
          %4: float32[3] = mul(%1, %3)
          %5: float32[] = full(shape=(), value=1.0, dtype=groundup.float32)
          %6: float32[3] strides (0,) = view(%5, shape=(3,), offset=0)
          %7: float32[3] = sub(%4, %6)
          %8: float32[2, 3] strides (0, 1) = view(%7, shape=(2, 3), offset=0)
          %9: float32[2, 3] = mul(%0, %8)
        outputs   %9
        """
    )
    assert after(program, fold_constants, remove_dead_code) == listing(
        """
        inputs    %0 x: float32[2, 3]
        nodes
          %1: float32[3] = full(shape=(3,), value=1.0, dtype=groundup.float32)
          %2: float32[2, 3] strides (0, 1) = view(%1, shape=(2, 3), offset=0)
          %3: float32[2, 3] = mul(%0, %2)
        outputs   %3
        """
    )


def test_a_sum_of_nothing_is_known() -> None:
    program = fold_constants(traced(lambda x: x[:0].sum() + x, gu.ones(3)))
    assert kinds(program) == ["full", "add"]


def test_what_devices_compute_differently_is_not_folded() -> None:
    one = gu.ones(3)
    program = fold_constants(traced(lambda x: x + gu.full((3,), 2.0).exp(), one))
    assert kinds(program) == ["full", "exp", "add"]
    program = fold_constants(traced(lambda x: x + gu.full((3,), 1e-30) * 1e-10, one))
    assert "mul" in kinds(program)  # a subnormal number, which GPUs may take for 0


def test_folded_numbers_round_as_their_dtype_does() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        tenth = gu.full((2,), 0.1, dtype="bfloat16")
        large = gu.full((2,), 2**31 - 1, dtype="int32")
        return x.astype("bfloat16") * (tenth + tenth * 3.0), x.astype("int32") + (large + 5)

    x = gu.tensor([1.5, -2.0])
    for got, wanted in zip(gu.compile(function)(x), function(x), strict=True):
        assert got.tolist() == wanted.tolist()


def test_views_of_views() -> None:
    program = traced(lambda x: x.clone()[1].clone()[1:] * 2, gu.ones(2, 3))
    assert str(program) == listing(
        """
        inputs    %0 x: float32[2, 3]
        nodes
          %1: float32[2, 3] = contiguous(%0)
          %2: float32[3] = view(%1, shape=(3,), offset=3)
          %3: float32[3] = contiguous(%2)
          %4: float32[2] = view(%3, shape=(2,), offset=1)
          %5: float32[] = full(shape=(), value=2.0, dtype=groundup.float32)
          %6: float32[2] strides (0,) = view(%5, shape=(2,), offset=0)
          %7: float32[2] = mul(%4, %6)
        outputs   %7
        """
    )
    assert after(program, remove_copies, simplify_views, remove_dead_code) == listing(
        """
        inputs    %0 x: float32[2, 3]
        nodes
          %1: float32[2] = view(%0, shape=(2,), offset=4)
          %2: float32[] = full(shape=(), value=2.0, dtype=groundup.float32)
          %3: float32[2] strides (0,) = view(%2, shape=(2,), offset=0)
          %4: float32[2] = mul(%1, %3)
        outputs   %4
        """
    )


# ---- composites ----


def test_residual_add_and_norm() -> None:
    weight, bias = gu.ones(3), gu.ones(3)

    def function(x: Tensor, y: Tensor) -> Tensor:
        total = x + y
        return ops.layer_norm(total, weight, bias, eps=0.1) * total

    program = traced(function, gu.ones(2, 3), gu.ones(2, 3))
    assert after(program, recognize_composites) == listing(
        """
        inputs    %0 x: float32[2, 3]
        inputs    %1 y: float32[2, 3]
        captured  %2: float32[3]
        captured  %3: float32[3]
        nodes
          %4: float32[2, 3], %5: float32[2, 3] = add_layer_norm(%0, %1, %2, %3, eps=0.1)
          %6: float32[2, 3] = mul(%4, %5)
        outputs   %6
        """
    )


def test_a_sum_that_is_read_before_the_norm_stays() -> None:
    weight = gu.ones(3)

    def function(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        total = x + y
        return total.exp(), ops.rms_norm(total, weight)

    x = gu.ones(2, 3)
    assert kinds(recognize_composites(traced(function, x, x))) == ["add", "exp", "rms_norm"]
    rows = traced(lambda x, y: ops.rms_norm(x + y, weight), x, gu.ones(3))
    assert "add" in kinds(recognize_composites(rows))  # the kernel would copy the broadcast rows


def backward_of_two_norms(norm: str) -> Program:
    """Residual blocks: the gradient of the first sum is a norm's dx and that of the second sum."""
    weight = gu.ones(3).requires_grad_()

    def function(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        first = x + getattr(ops, norm)(x, weight).tanh()
        second = first + getattr(ops, norm)(first, weight) * y
        return gu.grad(second.exp().sum(), (x, weight))

    x, y = np.random.default_rng(3).normal(size=(2, 4, 3)).astype(np.float32)
    inputs = gu.from_numpy(x).requires_grad_(), gu.from_numpy(y)
    wanted = function(*inputs)
    compiled = gu.compile(function)
    for got, want in zip(compiled(*inputs), wanted, strict=True):
        assert got.numpy().tobytes() == want.numpy().tobytes()
    return compiled.programs[0]


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_a_norms_gradient_takes_in_what_it_is_added_to(norm: str) -> None:
    found = kinds(backward_of_two_norms(norm))
    assert found.count(f"add_{norm}_backward") == 2
    assert f"{norm}_backward" not in found


def test_a_norms_gradient_that_must_stay_alone() -> None:
    weight, x = gu.ones(3), gu.ones(2, 3)
    backward = ops.REGISTRY["layer_norm_backward"](eps=0.1)

    def dx(x: Tensor, y: Tensor) -> Tensor:
        return backward.many(x, weight, y)[0]

    def twice(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        found = dx(x, y)
        return found + y, found * y

    functions: dict[str, Callable[[Tensor, Tensor], Any]] = {
        "read by another": twice,
        "what is added comes later": lambda x, y: dx(x, y) + y.exp(),
        "a row": lambda x, y: dx(x, y) + y[:1],
        "a result": lambda x, y: (lambda found: (found, found + y))(dx(x, y)),
    }
    for why, function in functions.items():
        found = kinds(recognize_composites(traced(function, x, x)))
        assert "layer_norm_backward" in found, why
        assert "add" in found, why
    for function in (lambda x, y: y + dx(x, y), lambda x, y: dx(x, y) + y):
        program = recognize_composites(traced(function, x, x))
        assert kinds(program) == ["add_layer_norm_backward"]


def test_bias_into_linear() -> None:
    weight, bias = gu.ones(4, 3), gu.ones(4)
    program = traced(lambda x: x @ weight.mT + bias, gu.ones(2, 3))
    assert str(program) == listing(
        """
        inputs    %0 x: float32[2, 3]
        captured  %1: float32[4, 3]
        captured  %2: float32[4]
        nodes
          %3: float32[3, 4] strides (1, 3) = view(%1, shape=(3, 4), offset=0)
          %4: float32[2, 4] = matmul(%0, %3)
          %5: float32[2, 4] strides (0, 1) = view(%2, shape=(2, 4), offset=0)
          %6: float32[2, 4] = add(%4, %5)
        outputs   %6
        """
    )
    assert after(program, recognize_composites) == listing(
        """
        inputs    %0 x: float32[2, 3]
        captured  %1: float32[4, 3]
        captured  %2: float32[4]
        nodes
          %3: float32[2, 4] = linear(%0, %1, %2)
        outputs   %3
        """
    )
    program = traced(lambda x: bias + ops.linear(x, weight), gu.ones(2, 3))
    assert kinds(recognize_composites(program)) == ["linear"]


@pytest.mark.parametrize("case", ["column", "read", "row-major", "part"])
def test_what_is_no_linear(case: str) -> None:
    weight, square, column = gu.ones(4, 3), gu.ones(3, 4), gu.ones(2, 1)
    wide = gu.ones(4, 6)
    functions: dict[str, Callable[[Tensor], Any]] = {
        "column": lambda x: x @ weight.mT + column,
        "read": lambda x: (lambda y: (y + gu.ones(4), y))(x @ weight.mT),
        "row-major": lambda x: x @ square + gu.ones(4),
        "part": lambda x: x @ wide[:, 3:].mT + gu.ones(4),
    }
    program = recognize_composites(traced(functions[case], gu.ones(2, 3)))
    assert "linear" not in kinds(program)
    assert "matmul" in kinds(program)


def test_log_softmax_and_nll_loss() -> None:
    def function(x: Tensor, ids: Tensor) -> Tensor:
        return ops.nll_loss(ops.log_softmax(x, axis=-1), ids, reduction="sum")

    x, ids = gu.randn(2, 3), gu.tensor([1, 2])
    program = traced(function, x, ids)
    assert after(program, recognize_composites) == listing(
        """
        inputs    %0 x: float32[2, 3]
        inputs    %1 ids: int32[2]
        nodes
          %2: float32[], %3: float32[2] = cross_entropy(%0, %1, ignore_index=-100, reduction='sum')
        outputs   %2
        """
    )
    np.testing.assert_allclose(gu.compile(function)(x, ids).numpy(), function(x, ids).numpy(), 1e-6)
    columns = traced(lambda x, ids: ops.nll_loss(ops.log_softmax(x, axis=0), ids), x, ids)
    assert "nll_loss" in kinds(recognize_composites(columns))


def test_clipping_goes_into_the_optimizer() -> None:
    """With the bits of two steps, and only where nobody keeps the clipped gradients."""
    x, y = gu.randn(8, 4), gu.randn(8, 2)

    def trained(passes: Any, keep: bool) -> tuple[list[str], list[Any]]:
        gu.manual_seed(0)
        model = nn.Linear(4, 2)
        optimizer = optim.AdamW(model.parameters(), lr=0.1)

        def step(x: Tensor, y: Tensor) -> Tensor:
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            nn.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            if not keep:
                optimizer.zero_grad()
            return loss

        run = gu.compile(step, passes=passes)
        for _ in range(3):
            run(x, y)
            optimizer.zero_grad()
        found = [p.detach().numpy() for p in model.parameters()]
        return kinds(run.programs[0]), found

    plain, clipped = trained(EXACT, False), trained((*EXACT, recognize_composites), False)
    assert plain[0].count("mul") == clipped[0].count("mul") + 2
    np.testing.assert_array_equal(plain[1][0], clipped[1][0])
    np.testing.assert_array_equal(plain[1][1], clipped[1][1])
    kept = trained((*EXACT, recognize_composites), True)
    assert kept[0].count("mul") == plain[0].count("mul")


# ---- recomputation ----


def test_cheap_values_are_made_where_they_are_read() -> None:
    program = merge_subexpressions(
        traced(lambda x, y: ((x + y).exp(), (x + y).sin()), gu.ones(3), gu.ones(3))
    )
    assert after(program, recompute_cheap_values) == listing(
        """
        inputs    %0 x: float32[3]
        inputs    %1 y: float32[3]
        nodes
          %2: float32[3] = add(%0, %1)
          %3: float32[3] = exp(%2)
          %4: float32[3] = add(%0, %1)
          %5: float32[3] = sin(%4)
        outputs   %3, %5
        """
    )
    final = compiled(lambda x, y: ((x + y).exp(), (x + y).sin()), gu.ones(3), gu.ones(3))
    assert kinds(final) == ["fused", "fused"]


def test_costly_and_result_values_are_kept() -> None:
    program = traced(lambda x: (lambda y: (y + 1, y * 2))(x.exp()), gu.ones(3))
    assert str(recompute_cheap_values(program)) == str(program)
    program = traced(lambda x: (lambda y: (y.exp(), y.sin(), y))(x + 1), gu.ones(3))
    assert str(recompute_cheap_values(program)) == str(program)


def test_a_late_reader_makes_the_value_again_if_its_parts_are_there() -> None:
    def function(x: Tensor, again: bool) -> tuple[Tensor, ...]:
        mask = x > 0.5
        y = mask.sum()  # which reads the mask itself
        for _ in range(20):
            y = y.astype("float32").sum()
        return y, mask.where(x.exp(), 2.0) if again else mask.where(y, 2.0)

    x = gu.randn(100, 100)
    for again in (True, False):
        program = move_to_setup(traced(lambda x, a=again: function(x, a), x))
        program = recompute_cheap_values(program)
        assert kinds(program).count("greater") == 1 + again


def test_what_checkpoint_computes_again_is_not_merged() -> None:
    layers = [nn.Linear(64, 64) for _ in range(4)]

    def peak(checkpointed: bool) -> tuple[int, int]:
        def loss(x: Tensor) -> Tensor:
            for layer in layers:

                def part(v: Tensor, layer: nn.Linear = layer) -> Tensor:
                    return layer(v).gelu().tanh()

                x = gu.checkpoint(part, x) if checkpointed else part(x)
            total = (x * x).mean()
            total.backward()
            return total

        executable = gu.compile(loss).trace(gu.randn(256, 64)).executable
        return executable.plan.peak, kinds(executable.program).count("linear")

    (usual, products), (less, more) = peak(False), peak(True)
    assert more > products
    assert less < 0.8 * usual

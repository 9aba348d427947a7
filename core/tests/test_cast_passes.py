"""Casts of mixed precision: absorbed by norms, losses and updates, gathered for weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import nn, ops, optim
from groundup.backends import null
from groundup.errors import ConfigError
from groundup.models.gpt import GPT, GPTConfig
from groundup.ops.casting import ForeachCast, Recast
from groundup.program import saved
from groundup.program.passes import EXACT, PASSES
from groundup.program.passes.casts import absorb_casts, gather_casts
from groundup.program.program import Program, verify
from groundup.tensor import Tensor

BEFORE = tuple(each for each in PASSES if each not in (absorb_casts, gather_casts))


def absorbed(function: Callable[..., Any], *args: Any) -> Program:
    program = gu.compile(function, passes=EXACT).trace(*args).executable.program
    return verify(gather_casts(verify(absorb_casts(program))))


def kinds(program: Program) -> list[str]:
    return [getattr(n.op, "title", n.op.name) for n in program.nodes if not n.is_view]


def narrow(*shape: int) -> Tensor:
    values = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    return gu.from_numpy(values).astype("bfloat16")


def wide(*shape: int) -> Tensor:
    return narrow(*shape).astype("float32")


def wide_norm(x: Tensor) -> Tensor:
    return ops.layer_norm(x.astype("float32"), gu.ones(3))


def test_casts_on_both_sides_become_part_of_a_norm() -> None:
    program = absorbed(lambda x: wide_norm(x).astype("bfloat16").exp(), narrow(2, 3))
    assert kinds(program) == ["recast[layer_norm]", "exp"]
    (op,) = [node.op for node in program.nodes if isinstance(node.op, Recast)]
    assert op.given == ((0, gu.float32),)
    assert op.made == ((0, gu.bfloat16),)
    assert op.again == ()


def test_a_result_in_two_dtypes_comes_out_twice() -> None:
    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        y = wide_norm(x)
        return y.astype("bfloat16").exp(), y.tanh()

    program = absorbed(function, narrow(2, 3))
    assert kinds(program) == ["recast[layer_norm]", "exp", "tanh"]
    (op,) = [node.op for node in program.nodes if isinstance(node.op, Recast)]
    assert (op.made, op.again) == ((), ((0, gu.bfloat16),))


def test_a_result_that_is_returned_wide_comes_out_wide() -> None:
    program = absorbed(lambda x: (wide_norm(x), wide_norm(x).astype("float16").exp()), narrow(2, 3))
    (op,) = [node.op for node in program.nodes if isinstance(node.op, Recast)]
    assert op.again == ((0, gu.float16),)


def test_one_op_may_have_two_narrow_results() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        y = wide_norm(x)
        return y.astype("bfloat16").exp(), y.astype("float16").exp(), y.astype("bfloat16").tanh()

    program = absorbed(function, narrow(2, 3))
    assert kinds(program) == ["recast[layer_norm]", "exp", "exp", "tanh"]
    (op,) = [node.op for node in program.nodes if isinstance(node.op, Recast)]
    assert op.again == ((0, gu.bfloat16), (0, gu.float16))


def test_what_another_op_reads_wide_stays_a_cast() -> None:
    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        y = x.astype("float32")
        return ops.layer_norm(y, gu.ones(3)), y.exp()

    assert kinds(absorbed(function, narrow(2, 3))) == ["cast", "layer_norm", "exp"]
    two = absorbed(lambda x: (wide_norm(x), x.astype("float32").sum()), narrow(2, 3))
    assert kinds(two) == ["recast[layer_norm]", "recast[sum]"]


def test_casts_that_round_what_an_op_reads_stay() -> None:
    weight = narrow(3)
    program = absorbed(lambda x: ops.layer_norm(x.astype("bfloat16"), weight), wide(2, 3))
    assert kinds(program) == ["cast", "layer_norm"]
    assert kinds(absorbed(lambda x: x.astype("float32").sum(), gu.ones(3, dtype="int32"))) == [
        "cast", "sum",
    ]  # fmt: skip


def test_a_copy_that_is_read_late_is_made_late() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        y = wide_norm(x)
        z = y
        for _ in range(20):
            z = z.tanh()
        return z, y.astype("bfloat16").exp()

    assert "cast" in kinds(absorbed(function, narrow(2, 3)))


def test_products_and_elementwise_ops_keep_their_casts() -> None:
    x = narrow(3, 3)
    program = absorbed(lambda x: (x.astype("float32") @ gu.ones(3, 3)).astype("bfloat16").exp(), x)
    assert kinds(program) == ["cast", "matmul", "cast", "exp"]


def test_casts_of_state_are_one_op_at_the_first_of_them() -> None:
    first, second, third = wide(3), wide(4, 3), wide(2)

    def function(x: Tensor) -> tuple[Tensor, ...]:
        y = x.exp()
        a, b = first.astype("bfloat16"), second.astype("bfloat16")
        return y, a.exp(), b.exp(), third.astype("float16").exp(), x.astype("bfloat16").exp()

    program = absorbed(function, wide(3))
    assert kinds(program) == ["exp", "foreach_cast", "exp", "exp", "cast", "exp", "cast", "exp"]
    (node,) = [node for node in program.nodes if isinstance(node.op, ForeachCast)]
    assert [value.spec.shape for value in node.outputs] == [(3,), (4, 3)]


def test_copies_that_are_soon_free_again_are_made_one_by_one() -> None:
    weights = [wide(256, 256) for _ in range(3)]
    biases = [wide(256) for _ in range(3)]

    def function(x: Tensor) -> Tensor:
        for weight, bias in zip(weights, biases, strict=True):
            x = ops.linear(x, weight.astype("bfloat16"), bias.astype("bfloat16"))
        return x

    program = absorbed(function, narrow(1, 256))
    assert kinds(program) == ["cast", "foreach_cast", "linear", "cast", "linear", "cast", "linear"]

    def again(x: Tensor) -> Tensor:
        copies = [weight.astype("bfloat16") for weight in weights]
        for copy in (*copies, *reversed(copies)):
            x = x @ copy
        return x

    assert kinds(absorbed(again, narrow(1, 256))) == ["foreach_cast"] + ["matmul"] * 6


def test_updates_take_over_memory_but_not_that_of_casts() -> None:
    parameters = (("count", 1), ("weight_decay", (0.0,)), ("momentum", 0.9))
    op = Recast(call=("sgd", parameters), given=((4, gu.float32),))
    assert op.aliases == {0: 3, 1: 5}
    assert Recast(call=op.call, given=((3, gu.float32),)).aliases == {1: 5}
    assert Recast(call=op.call, made=((1, gu.bfloat16),)).aliases == {0: 3}


def test_an_unknown_op_has_no_recast() -> None:
    with pytest.raises(ConfigError, match="there is no op 'nothing'"):
        Recast(call=("nothing", ())).infer()


def test_the_cost_is_what_the_operands_really_take() -> None:
    x, w = narrow(4, 8), wide(8)
    op = Recast(
        call=("rms_norm", (("eps", 1e-6),)), given=((0, gu.float32),), made=((0, gu.bfloat16),)
    )
    assert op.cost(x.spec, w.spec).bytes == 2 * 4 * 8 + 4 * 8 + 2 * 4 * 8
    alone = ops.REGISTRY["rms_norm"]().cost(wide(4, 8).spec, w.spec)
    assert op.cost(x.spec, w.spec).flops == alone.flops
    assert alone.bytes == 4 * 4 * 8 + 4 * 8 + 4 * 4 * 8


def small_step(dtype: str, device: Any = None) -> tuple[Callable[..., Any], Tensor, Tensor]:
    """A training step of a tiny model in mixed precision, clipped, and a batch."""
    gu.manual_seed(3)
    config = GPTConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=32, dropout=0.1)
    model = GPT(config) if device is None else GPT(config).to(device)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    def step(x: Tensor, y: Tensor) -> Tensor:
        with gu.autocast(dtype):
            loss = model(x, y)
        loss.backward()
        nn.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    ids = np.random.default_rng(0).integers(0, 32, (2, 4, 8), dtype=np.int32)
    x, y = (gu.from_numpy(part, device) for part in ids)
    return step, x, y


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_training_is_the_same_to_the_bit_on_the_cpu(dtype: str) -> None:
    losses = {}
    for name, passes in (("before", BEFORE), ("after", PASSES)):
        step, x, y = small_step(dtype)
        compiled = gu.compile(step, passes=passes)
        losses[name] = [compiled(x, y).item() for _ in range(4)]
    assert losses["before"] == losses["after"]


def test_a_mixed_step_has_one_cast_where_a_device_takes_all() -> None:
    device = null.fresh()
    step, x, y = small_step("bfloat16", device)
    step(x, y)
    counts = {}
    for name, passes in (("before", BEFORE), ("after", PASSES)):
        program = gu.compile(step, passes=passes).trace(x, y).executable.program
        counts[name] = kinds(program).count("cast"), program.launches()
    (casts, launches), (casts_left, launches_left) = counts["before"], counts["after"]
    assert casts > 40
    assert casts_left == 0
    assert launches_left == launches - casts + 1  # the weights'


def test_a_profile_names_the_op_between_the_casts() -> None:
    device = null.fresh()
    step, x, y = small_step("bfloat16", device)
    step(x, y)
    compiled = gu.compile(step)
    compiled(x, y)
    with gu.profile() as p:
        compiled(x, y)
    names = {event.name for event in p.events if event.kind == "op"}
    assert {"recast[add_layer_norm]", "recast[adamw]", "recast[cross_entropy]"} <= names
    assert "recast" not in names


def test_a_saved_program_keeps_its_recasts(tmp_path: Any) -> None:
    device = null.fresh()
    weight = gu.ones(3, device=device)
    compiled = gu.compile(lambda x: ops.rms_norm(x.astype("float32"), weight).astype("bfloat16"))
    x = gu.zeros(2, 3, dtype="bfloat16", device=device)
    compiled(x)
    compiled.save(tmp_path / "p.safetensors")
    loaded = saved.load(tmp_path / "p.safetensors", device)
    assert kinds(loaded.program) == ["recast[rms_norm]"]
    assert str(loaded.program).count("made=((0, groundup.bfloat16),)") == 1
    on_cpu = saved.load(tmp_path / "p.safetensors", "cpu")
    assert kinds(on_cpu.executable.program) == ["cast", "rms_norm", "cast"]

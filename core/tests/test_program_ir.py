"""Programs: printing, verification, files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import attrs
import numpy as np
import pytest

import groundup as gu
from groundup import dtypes, nn, optim
from groundup.errors import CheckpointError, ProgramError, ShapeError
from groundup.layout import Layout, Spec
from groundup.ops.arithmetic import Add
from groundup.ops.elementwise import Exp
from groundup.program.program import Effect, Node, Program, Value, verify
from groundup.program.saved import load
from groundup.program.views import PutView, StridedView
from groundup.serialization import load_arrays, save_arrays
from groundup.tensor import Tensor


def value(*shape: int) -> Value:
    return Value(Layout.contiguous(Spec(shape, dtypes.float32)))


def broken() -> dict[str, Program]:
    x, y, z, state = value(2), value(2), value(3), value(2)
    exp = Node(Exp(), (x,), (y,))
    good = Program((x,), (state,), (exp,), (y,), (Effect(state, y),))
    verify(good)
    far = Node(StridedView(shape=(2,), strides=(1,), offset=1), (x,), (value(2),))
    put = Node(PutView(shape=(3,), strides=(1,)), (x, z), (value(2),))
    turned = Value(Layout((2, 2), (1, 2), dtypes.float32))
    wide, one = value(2, 2), value(1)
    return {
        "defined twice": attrs.evolve(good, nodes=(exp, exp)),
        "twice among": attrs.evolve(good, inputs=(x, x)),
        "used before it is made": attrs.evolve(good, nodes=(Node(Exp(), (z,), (y,)),)),
        "the program says": attrs.evolve(good, nodes=(Node(Exp(), (x,), (z,)),), outputs=()),
        "do not broadcast": attrs.evolve(good, inputs=(x, z), nodes=(Node(Add(), (x, z), (y,)),)),
        "wants equal shapes": attrs.evolve(
            good, inputs=(x, one), nodes=(Node(Add(), (x, one), (y,)),)
        ),
        "never made": attrs.evolve(good, nodes=()),
        "no target": attrs.evolve(good, effects=(Effect(y, y),)),
        "or twice": attrs.evolve(good, effects=(Effect(state, y), Effect(state, y))),
        "cannot fill": attrs.evolve(good, captured=(z,), effects=(Effect(z, y),)),
        "elements 1 to 2 reaches outside": attrs.evolve(good, nodes=(exp, far)),
        "window .* cannot hold|reaches outside": attrs.evolve(
            good, inputs=(x, z), nodes=(exp, put)
        ),
        "setup depends": attrs.evolve(good, nodes=(), setup=(exp,)),
        "only views have strides": attrs.evolve(
            good, inputs=(x, wide), nodes=(exp, Node(Exp(), (wide,), (turned,)))
        ),
    }


@pytest.mark.parametrize("fault", broken())
def test_verify_finds(fault: str) -> None:
    with pytest.raises(ProgramError, match=fault):
        verify(broken()[fault])


def trained() -> tuple[Any, nn.Module, optim.Optimizer]:
    gu.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @gu.compile
    def step(x: Tensor, y: Tensor) -> dict[str, Any]:
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return {"loss": loss, "note": ("mean", 1, 2.5, None, True)}

    return step, model, optimizer


def test_a_listing_reads_like_the_function() -> None:
    layer = nn.Linear(2, 2, bias=False)
    run = gu.compile(lambda x: (layer(x) * 0.5).sum(axis=0))
    run(gu.ones(3, 2))
    assert (
        str(run.programs[0])
        == dedent("""
        inputs    %0 x: float32[3, 2]
        captured  %1 weight: float32[2, 2]
        setup
          %2: float32[] = full(shape=(), value=0.5, dtype=groundup.float32)
          %3: float32[3, 2] strides (0, 0) = view(%2, shape=(3, 2), offset=0)
        nodes
          %4: float32[3, 2] = linear(%0, %1)  # Linear
          %5: float32[3, 2] = mul(%4, %3)
          %6: float32[2] = sum(%5, axes=(0,), keepdims=False)
        outputs   %6
        """).strip()
    )


def test_nodes_know_their_modules() -> None:
    step, _, _ = trained()
    step(gu.ones(3, 2), gu.ones(3, 1))
    scopes = {node.op.name: node.scope for node in step.programs[0].nodes if node.scope}
    assert scopes["linear"] == "2"
    assert scopes["dropout"] == "1"


def test_nodes_know_their_lanes() -> None:
    step, _, _ = trained()
    step(gu.ones(3, 2), gu.ones(3, 1))
    lanes = {node.op.name: node.lane for node in step.programs[0].nodes}
    assert lanes["linear"] == "forward"
    assert lanes["matmul"] == "backward"
    assert lanes["sgd"] == "optimizer"


def test_a_saved_program_goes_on_without_its_python(tmp_path: Path) -> None:
    step, model, _ = trained()
    x, y = gu.ones(3, 2), gu.zeros(3, 1)
    step(x, y)
    step.save(tmp_path / "step.safetensors")
    loaded = load(tmp_path / "step.safetensors", "cpu")
    assert list(loaded.inputs) == ["x", "y"]
    assert {n.lane for n in loaded.program.nodes} >= {"forward", "backward", "optimizer"}
    assert {n.scope for n in loaded.program.nodes} == {n.scope for n in step.programs[0].nodes}
    for _ in range(3):
        eager, again = step(x, y), loaded(x, y)
        assert again["note"] == ("mean", 1, 2.5, None, True)
        np.testing.assert_array_equal(again["loss"].numpy(), eager["loss"].detach().numpy())
    for name, parameter in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state[name].numpy(), parameter.numpy())
    with pytest.raises(ShapeError, match="an input is float32"):
        loaded(y, x)
    with pytest.raises(ProgramError, match="takes x, y: 1 were given"):
        loaded(x)


def test_a_saved_program_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    double = gu.compile(lambda x: {"y": x * 2.0 + float("inf")})
    double(gu.ones(2))
    double.save(tmp_path / "f.safetensors")
    code = (
        "import sys, groundup as gu\n"
        "from groundup.program.saved import load\n"
        "print(load(sys.argv[1], 'cpu')(-gu.ones(2))['y'].tolist())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "f.safetensors")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[inf, inf]"


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    w = gu.ones(2)
    run = gu.compile(lambda x: x * w)
    run(gu.ones(2))
    run.save(path)
    arrays, metadata = load_arrays(path)
    record = json.loads(metadata["program"])

    def changed(**parts: Any) -> dict[str, str]:
        return {"program": json.dumps(record | parts)}

    nodes = [record["nodes"][0] | {"op": "mull"}]
    for bad, message in (
        ({}, "holds no program"), ({"program": "{"}, "holds no program"),
        (changed(format=99), "program format 99"), (changed(outputs=[77]), "holds no program"),
        (changed(nodes=[]), "never made"), (changed(nodes=nodes), "an op 'mull'.*mul"),
        (changed(values=[]), "holds no program"),
        (changed(result={"output": 7}), "holds no program"),
    ):  # fmt: skip
        save_arrays(path, arrays, bad)
        with pytest.raises(CheckpointError, match=message):
            load(path, "cpu")
    save_arrays(path, {"other": np.ones(3, np.float32)}, metadata)
    with pytest.raises(CheckpointError, match="do not fit the program"):
        load(path, "cpu")


def test_what_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    w = gu.ones(1).requires_grad_()
    run = gu.compile(lambda x: w)
    with pytest.raises(ProgramError, match="no program yet"):
        run.save(tmp_path / "f")
    run(gu.ones(1))
    with pytest.raises(CheckpointError, match="returns a tensor that it captured"):
        run.save(tmp_path / "f")
    adding = gu.compile(lambda x: (w * x).sum().backward())
    adding(gu.ones(1))
    adding(gu.ones(1))
    with pytest.raises(ProgramError, match="adds to gradients"):
        adding.save(tmp_path / "f")
    assert not list(tmp_path.iterdir())

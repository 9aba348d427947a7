"""All that is dispatched for the samples of every op, and for models, is taken by Dawn.

A device without an adapter writes it down, so nothing is left out and no GPU is needed. Dawn has
Chromium's compiler, Tint, and its checks of bindings, which refuse much that wgpu lets pass.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import groundup as g
from groundup import dispatch, dtypes, nn, optim
from groundup.backends.devices import by_default
from groundup.errors import UnsupportedDtype
from groundup.layout import Layout, Spec
from groundup.models.gpt import GPT, GPTConfig
from groundup.ops import REGISTRY
from groundup.ops.contraction import MatMul
from groundup.ops.samples import Case, cases_of
from groundup.tensor import Tensor
from groundup_webgpu.ladders import LADDERS
from groundup_webgpu.machine import Machine
from groundup_webgpu.tape import TapeDevice

TINT = Path(__file__).with_name("tint.mjs")
LARGE = Machine(software=False, memory=32768, buffers=16)
MACHINES = {
    "portable": Machine(software=False), "large": LARGE, "software": Machine(software=True),
    "subgroups": Machine(software=False, subgroups=True),
}  # fmt: skip


def cases() -> Iterator[Case]:
    for op in REGISTRY.values():
        for dtype in (dtypes.float32, dtypes.float16, dtypes.int32, dtypes.bool_):
            if dtype in op.dtypes:
                yield from cases_of(op, dtype)


def results_and_gradients(op: Any, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of an op, for gradients of 1."""
    leaves = [x.detach().requires_grad_() if x.dtype.is_floating else x for x in inputs]
    results = dispatch.apply(op, tuple(leaves))
    results = results if isinstance(results, tuple) else (results,)
    reached = [y for y in results if y.requires_grad]
    wanted = [x for x in leaves if x.requires_grad]
    if not reached or not wanted:
        return results
    found = g.grad(reached, wanted, [g.ones_like(y) for y in reached])
    return (*results, *[x for x in found if x is not None])


def run(case: Case, device: TapeDevice, compiled: bool) -> None:
    """A sample on the device; compiled, its tensors lie in one buffer, and ops are fused."""
    inputs = [x.view(g.from_numpy(x.base, device)) for x in case.inputs]

    def function(*inputs: Tensor) -> tuple[Tensor, ...]:
        return results_and_gradients(case.op, inputs)

    if not inputs:
        dispatch.apply(case.op, (), device)
    elif compiled:
        g.compile(function)(*inputs)
    else:
        function(*inputs)


def dispatches(device: TapeDevice) -> list[dict[str, Any]]:
    """Those on the tape that differ in their kernels, or in which operands lie together."""
    kernels = list(device.tape.kernels)
    found = {}
    for step in device.tape.steps:
        if "run" in step:
            code, kinds = kernels[step["run"]]
            numbers = [number for number, *_ in step["memory"]]
            key = (step["run"], *[numbers.index(number) for number in numbers])
            memory = [(numbers.index(number), *span) for number, *span in step["memory"]]
            found[key] = {"code": code, "bindings": kinds, "memory": memory}
    return list(found.values())


def refused(found: Sequence[dict[str, Any]]) -> list[str]:
    """What Dawn says of the dispatches that it does not take, with what every adapter has.

    GROUNDUP_NODE_MODULES is a folder whose node_modules have the npm package `webgpu`.
    """
    folder, node = os.environ.get("GROUNDUP_NODE_MODULES"), shutil.which("node")
    if not folder or not node:
        pytest.skip("needs node, and GROUNDUP_NODE_MODULES with the npm package webgpu")
    command = [node, str(TINT), folder]
    result = subprocess.run(
        command, input=json.dumps(found), capture_output=True, text=True, timeout=300, check=True
    )
    return list(json.loads(result.stdout))


def recorded(machine: str, compiled: bool = False) -> TapeDevice:
    """A device with all samples on its tape."""
    device = TapeDevice(MACHINES[machine], half=True)
    ran = 0
    for case in cases():
        try:
            run(case, device, compiled)
            ran += 1
        except UnsupportedDtype:
            continue
    assert ran > 4000
    return device


def test_samples_of_every_op() -> None:
    found = dispatches(recorded("portable"))
    assert len(found) > 800
    assert not refused(found)


@pytest.mark.slow
def test_samples_for_software() -> None:
    assert not refused(dispatches(recorded("software")))


@pytest.mark.slow
def test_samples_with_subgroups() -> None:
    """Dawn wants to be told, by a line that wgpu does not know."""
    found = [x for x in dispatches(recorded("subgroups")) if "subgroup" in x["code"]]
    assert found
    assert not refused([{**x, "code": f"enable subgroups;\n{x['code']}"} for x in found])


@pytest.mark.slow
def test_samples_with_more_memory_and_buffers() -> None:
    kernels = recorded("large").tape.kernels
    assert not refused([{"code": code, "bindings": kinds} for code, kinds in kernels])


@pytest.mark.slow
def test_samples_compiled() -> None:
    found = dispatches(recorded("portable", compiled=True))
    assert any(len({first for _, first, _ in each["memory"]}) > 1 for each in found)
    assert not refused(found)


def test_ladders() -> None:
    device = TapeDevice(MACHINES["portable"], half=True)
    for dtype in (dtypes.float32, dtypes.float16):
        x, y = (g.zeros(*shape, dtype=dtype, device=device)._view for shape in ((9, 12), (12, 20)))
        out = device.empty(Layout.contiguous(Spec((9, 20), dtype)))
        for rung in LADDERS["matmul"](MatMul(), (x.layout, y.layout), (out.layout,)):
            rung.kernel(device, MatMul()).launch((x, y), (out,))
    found = dispatches(device)
    assert len(found) >= 12
    assert not refused(found)


def test_steps_of_training() -> None:
    """Two compiled steps of a small GPT: everything lies in a few buffers."""
    device = TapeDevice(MACHINES["portable"], half=True)
    with by_default(device):
        config = GPTConfig(
            n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=40, dropout=0.1
        )
        model = GPT(config)
        optimizer = optim.AdamW(model.parameters(), lr=1e-3)

        def step(ids: Tensor, wanted: Tensor) -> Tensor:
            logits = model(ids).reshape(-1, config.vocab_size)
            loss = nn.functional.cross_entropy(logits, wanted.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        compiled = g.compile(step)
        for _ in range(2):
            compiled(g.zeros(4, 16, dtype="int32"), g.zeros(4, 16, dtype="int32"))
    found = dispatches(device)
    assert len(found) > 30
    assert not refused(found)

"""The same seed gives the same run as on the cpu: equal weights, and losses within 1e-3."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.models.gpt import GPT, GPTConfig
from groundup.train import preset
from groundup.train.dataset import load_dataset
from groundup.train.loop import begin
from groundup_webgpu.backend import WebGpuBackend

PROBE = WebGpuBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"webgpu: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)
SIZES = {"n-layer": 2, "n-head": 2, "n-embd": 32, "block-size": 16, "batch-size": 4}
RUN = {"max-iters": 20, "log-interval": 1, "eval-iters": 1, "sample-tokens": 0, "vocab-size": 300}


def losses(device: str, folder: Path) -> list[float]:
    flags = {**SIZES, **RUN, "device": device, "seed": 1, "warmup-iters": 5, "out": device[:3]}
    command = [sys.executable, "-m", "groundup", "train"]
    command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = (folder / device[:3] / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_weights_agree() -> None:
    config = GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, vocab_size=50)
    states = []
    for device in ("cpu", "webgpu:0"):
        g.set_default_device(device)
        try:
            g.manual_seed(3)
            model = GPT(config)
            states.append({name: t.numpy() for name, t in model.state_dict().items()})
        finally:
            g.set_default_device(None)
    for name, value in states[0].items():
        np.testing.assert_allclose(states[1][name], value, rtol=1e-6, atol=1e-7)


def test_losses_agree(tmp_path: Path) -> None:
    cpu, webgpu = (losses(device, tmp_path) for device in ("cpu", "webgpu:0"))
    assert len(cpu) == 20
    assert cpu[-1] < cpu[0] - 0.05, "it learns"
    np.testing.assert_allclose(webgpu, cpu, rtol=1e-3)


def test_runs_begin_with_the_same_bits() -> None:
    config = preset("tiny")
    dataset = load_dataset(config, None)
    cpu, webgpu = (begin(config, dataset, g.device_for(name)) for name in ("cpu", "webgpu:0"))
    wanted, found = cpu.model.state_dict(), webgpu.model.state_dict()
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name].numpy(), value.numpy())
    batches = [run._tensors(run._train, 0) for run in (cpu, webgpu)]
    for one, two in zip(*batches, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())

"""How long ops take on the devices `cpu` and `numba`, in one process and in turns.

Run: python measure.py [--rounds N] [--json FILE]. Prints milliseconds, the best of N turns, and
cpu / numba.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import groundup as gu
from groundup import nn, ops, optim
from groundup.models.gpt import GPT, GPTConfig
from groundup.nn import functional

Step = Callable[[], object]
DEVICES = ("cpu", "numba")


def inputs(device: str) -> dict[str, gu.Tensor]:
    rng = np.random.default_rng(0)

    def array(*shape: int) -> gu.Tensor:
        return gu.tensor(rng.standard_normal(shape), dtype="float32", device=device)

    ids = gu.tensor(rng.integers(0, 1000, 1024), dtype="int32", device=device)
    return {
        "small": array(32, 32), "x": array(1024, 1024), "y": array(1024, 1024), "row": array(1024),
        "w": array(1024), "long": array(1 << 22), "logits": array(1024, 1000), "ids": ids,
        "q": array(16, 4, 64, 32), "table": array(1000, 256),
    }  # fmt: skip


def functions(device: str) -> dict[str, Step]:
    """Names and what to time. Forward and backward where gradients are named."""
    t = inputs(device)
    x, y, row, w = t["x"], t["y"], t["row"], t["w"]
    gu.manual_seed(0)
    state = gu.random.draw(gu.device_for(device))
    parameter = nn.Parameter(t["x"].clone())
    parameter.grad = y
    optimizer = optim.AdamW([parameter], lr=1e-4)
    leaf = x.clone().requires_grad_()

    def gradient(function: Callable[[gu.Tensor], gu.Tensor]) -> Step:
        return lambda: gu.grad((function(leaf) * y).sum(), [leaf])

    return {
        "add 32x32": lambda: t["small"] + t["small"],
        "add": lambda: x + y, "add a row": lambda: x + row, "mul by 2": lambda: x * 2.0,
        "where": lambda: ops.where(x > 0, x, y), "x.mT copied": lambda: x.mT.clone(),
        "exp": lambda: x.exp(), "log1p(abs)": lambda: x.abs().log1p(), "tanh": lambda: x.tanh(),
        "erf": lambda: x.erf(), "sin": lambda: x.sin(), "x ** 3.0": lambda: x.abs() ** 3.0,
        "gelu": lambda: x.gelu(), "gelu tanh": lambda: x.gelu("tanh"), "silu": lambda: x.silu(),
        "gelu tanh, gradient": gradient(lambda v: v.gelu("tanh")),
        "sum": lambda: t["long"].sum(), "sum over rows": lambda: x.sum(1),
        "sum over columns": lambda: x.sum(0), "max over rows": lambda: x.max(1),
        "mean": lambda: x.mean(1), "cumsum": lambda: x.cumsum(1),
        "sort": lambda: t["logits"].sort(),
        "matmul": lambda: x @ y, "softmax": lambda: x.softmax(),
        "softmax, gradient": gradient(lambda v: v.softmax()),
        "layer_norm": lambda: ops.layer_norm(x, w, row),
        "layer_norm, gradient": gradient(lambda v: ops.layer_norm(v, w, row)),
        "rms_norm": lambda: ops.rms_norm(x, w),
        "cross_entropy": lambda: ops.cross_entropy(t["logits"], t["ids"]),
        "attention 16x4x64x32": lambda: ops.scaled_dot_product_attention(
            t["q"], t["q"], t["q"], causal=True
        ),
        "embedding": lambda: t["table"].take(t["ids"], 0),
        "random_bits": lambda: ops.random_bits(state, (1 << 20,)),
        "normal": lambda: ops.normal(state, (1 << 20,)),
        "dropout": lambda: ops.dropout(x, state, 0.1),
        "adamw": optimizer.step,
    }  # fmt: skip


def gpt(device: str) -> Step:
    """One training step of the preset `tiny`."""
    gu.set_default_device(device)
    gu.manual_seed(1)
    model = GPT(GPTConfig(n_layer=3, n_head=5, n_embd=160, block_size=64, vocab_size=2048))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    ids = np.random.default_rng(0).integers(0, 2048, (16, 65)).astype(np.int32)
    x, y = gu.from_numpy(ids[:, :-1], device), gu.from_numpy(ids[:, 1:].copy(), device)

    def step() -> None:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def milliseconds(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """The best of each device's times, which are taken in turns: the machine may be busy."""
    taken: dict[str, list[float]] = {device: [] for device in steps}
    for round_ in range(-3, rounds):  # three to compile and to warm up
        for device, step in steps.items():
            begun = time.perf_counter()
            step()
            if round_ >= 0:
                taken[device].append(time.perf_counter() - begun)
    return {device: 1000 * min(times) for device, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rounds = arguments.rounds
    by_device = {device: functions(device) for device in DEVICES}
    found = {}
    for name in by_device["cpu"]:
        steps = {device: by_device[device][name] for device in DEVICES}
        found[name] = milliseconds(steps, rounds)
    found["a training step of `tiny`"] = milliseconds({d: gpt(d) for d in DEVICES}, rounds)
    gu.set_default_device(None)
    print("| float32, 1024 x 1024 where no size is given | cpu, ms | numba, ms | cpu / numba |")
    print("|---|---|---|---|")
    for name, times in found.items():
        ratio = times["cpu"] / times["numba"]
        print(f"| {name} | {times['cpu']:.3f} | {times['numba']:.3f} | {ratio:.2f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

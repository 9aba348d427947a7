"""One training step of gpt-12m on the CPU, float32: eager, compiled, and PyTorch's.

    python benchmarks/gpt12m_step.py

All do the same work (forward, backward, clipping, fused AdamW) on the same shapes, in turns in one
process, so that a busy machine slows all; the ratios of the medians count, not the times. Peak
memory is read in processes of their own. Needs torch.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

VOCABULARY, LAYERS, HEADS, WIDTH, CONTEXT = 4096, 6, 6, 384, 256
Step = Callable[[], float]


def eager_step(batch: int) -> Step:
    """A function that does one step and returns the loss."""
    step, x, y = _groundup(batch)
    return lambda: float(step(x, y))


def compiled_step(batch: int) -> Step:
    """The same, traced at the first call and replayed from then on."""
    import groundup as g

    step, x, y = _groundup(batch)
    compiled = g.compile(step)
    return lambda: float(compiled(x, y))


def _groundup(batch: int) -> tuple[Callable[[Any, Any], Any], Any, Any]:
    import groundup as g
    from groundup import nn, optim
    from groundup.models.gpt import GPT, GPTConfig

    config = GPTConfig(
        n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH, block_size=CONTEXT, vocab_size=VOCABULARY
    )
    model = GPT(config)
    optimizer = optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    x, y = (g.from_numpy(ids) for ids in _batch(batch))

    def step(x: Any, y: Any) -> Any:
        loss = model(x, y)
        loss.backward()
        nn.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, x, y


def torch_step(batch: int) -> Step:
    """The same in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            B, T, C = x.shape
            heads = self.qkv(self.ln_1(x)).view(B, T, 3, HEADS, C // HEADS).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*heads, is_causal=True)
            x = x + self.proj(mixed.transpose(1, 2).reshape(B, T, C))
            return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
            self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
            self.ln_f = nn.LayerNorm(WIDTH)

        def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            x = self.ln_f(self.blocks(self.wte(ids) + self.wpe.weight))
            return F.cross_entropy((x @ self.wte.weight.T).flatten(0, 1), targets.flatten())

    torch.manual_seed(0)
    model = Model()
    for p in model.parameters():
        nn.init.normal_(p, std=0.02) if p.ndim > 1 else None
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    x, y = (torch.from_numpy(ids.astype(np.int64)) for ids in _batch(batch))

    def step() -> float:
        loss = model(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def _batch(batch: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (2, batch, CONTEXT), dtype=np.int32)
    return ids[0], ids[1]


MAKERS = {"eager": eager_step, "compiled": compiled_step, "torch": torch_step}


def seconds(step: Step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def peak_memory(name: str, batch: int) -> int:
    """Peak resident bytes of a process that only does three steps of `name`."""
    command = [sys.executable, __file__, "--batch", str(batch), "--peak", name]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peak", choices=list(MAKERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        step = MAKERS[options.peak](options.batch)
        for _ in range(3):
            step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    # First, while this process is small: a child's peak starts at what its parent holds.
    peaks = {name: peak_memory(name, options.batch) // 2**20 for name in MAKERS}
    steps = {name: make(options.batch) for name, make in MAKERS.items()}
    for step in steps.values():
        seconds(step)  # first use: plans, caches, page faults
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):
        for name, step in steps.items():
            times[name].append(seconds(step))
    medians = {name: statistics.median(values) for name, values in times.items()}
    report = {
        "batch": options.batch,
        "ratios": {
            f"{ours}/{theirs}": round(medians[ours] / medians[theirs], 3)
            for ours, theirs in (("eager", "torch"), ("compiled", "torch"), ("compiled", "eager"))
        },
        "ratios_of_best": {
            name: round(min(times[name]) / min(times["torch"]), 3) for name in ("eager", "compiled")
        },
        "milliseconds": {name: round(value * 1e3) for name, value in medians.items()},
        "peak_megabytes": peaks,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

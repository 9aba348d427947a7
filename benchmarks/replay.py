"""What compiled functions cost besides their kernels, on the CPU.

    python benchmarks/replay.py

Microseconds a launch for 500 additions and products of one element (NumPy's own add beside it), for
the call of a compiled function of one op, and the seconds that tracing and compiling the training
step of gpt-12m takes. The best of several rounds, in processor time of this process, which a busy
machine disturbs least.
"""

from __future__ import annotations

import json
import time
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

import groundup as g
from groundup import nn, optim
from groundup.models.gpt import GPT, GPTConfig
from groundup.program.compile import Compiled
from groundup.program.passes import EXACT

LAUNCHES, ROUNDS = 500, 20


def best(work: Callable[[], Any], calls: int) -> float:
    """Microseconds of one call."""
    timer = time.process_time
    return min(timeit.timeit(work, number=calls, timer=timer) for _ in range(ROUNDS)) / calls * 1e6


def tiny() -> dict[str, float]:
    x, y = g.ones(1, device="cpu"), g.ones(1, device="cpu")

    @g.compile(passes=EXACT)  # one launch an op
    def many(x: Any, y: Any) -> Any:
        for _ in range(LAUNCHES // 2):
            x = x * y
            x = x + y
        return x

    one = g.compile(lambda x, y: x + y)
    many(x, y), one(x, y)
    executable = many.entries[0].executable
    assert len(executable.launches) == LAUNCHES
    a, out = np.ones(1, np.float32), np.ones(1, np.float32)
    return {
        "a_launch": best(executable._replay, 200) / LAUNCHES,
        "numpy_add": best(lambda: np.add(a, a, out), 20_000),
        "a_call_of_one_op": best(lambda: one(x, y), 2000),
    }


def training_step() -> Compiled:
    config = GPTConfig(n_layer=6, n_head=6, n_embd=384, block_size=256, vocab_size=4096)
    model = GPT(config).to("cpu")
    optimizer = optim.AdamW(model.parameters())

    @g.compile
    def step(x: Any, y: Any) -> Any:
        loss = model(x, y)
        loss.backward()
        nn.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def main() -> None:
    report: dict[str, Any] = {"microseconds": {k: round(v, 3) for k, v in tiny().items()}}
    ids = g.zeros(8, 256, dtype="int32", device="cpu")
    step = training_step()
    seconds = -time.process_time()
    entry = step.trace(ids, ids)
    seconds += time.process_time()
    executable = entry.executable
    report["gpt-12m"] = {
        "trace_and_compile_seconds": round(seconds, 3),
        "launches": {"traced": entry.traced.launches(), "after passes": len(executable.launches)},
        "plan": str(executable.plan),
        "peak_over_largest_live_set": executable.plan.peak / executable.plan.largest_live_set,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

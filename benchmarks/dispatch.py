"""What eager dispatch costs: adding two one-element tensors on the CPU, beside NumPy's own add.

    python benchmarks/dispatch.py

The three are timed in turns, so that a busy machine slows all of them; the ratios of the best
times count.
"""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

import groundup as g

CALLS, ROUNDS = 20_000, 25


def main() -> None:
    x, y = np.ones(1, np.float32), np.ones(1, np.float32)
    a, b = (g.from_numpy(array, "cpu") for array in (x, y))
    leaf = g.from_numpy(x, "cpu").requires_grad_()
    cases: dict[str, Callable[[], Any]] = {
        "numpy": lambda: np.add(x, y),
        "groundup": lambda: a + b,
        "groundup_with_gradient": lambda: leaf + b,
    }
    best = {
        name: min(timeit.timeit(case, number=CALLS) for _ in range(ROUNDS)) / CALLS * 1e6
        for name, case in cases.items()
    }
    for _ in range(3):  # and once more in another order, for the same reason
        for name, case in reversed(cases.items()):
            best[name] = min(best[name], timeit.timeit(case, number=CALLS) / CALLS * 1e6)
    ratios = {name: round(value / best["numpy"], 2) for name, value in best.items()}
    print(json.dumps({"microseconds": {k: round(v, 3) for k, v in best.items()}, "ratios": ratios}))


if __name__ == "__main__":
    main()

"""How long `import groundup` takes in a fresh interpreter, beside NumPy alone.

    python benchmarks/import_time.py

Bytecode caches are in place, as after any installation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

ROUNDS = 15


def seconds(code: str) -> float:
    """The best of many starts, the interpreter's own start included."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    times = {name: seconds(f"import {name}") for name in ("sys", "numpy", "groundup")}
    print(json.dumps({name: round(value, 3) for name, value in times.items()}))


if __name__ == "__main__":
    main()

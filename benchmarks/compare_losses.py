"""The same training run on several devices: do they learn the same thing?

    python benchmarks/compare_losses.py cpu webgpu:0 --steps 100

Trains `tiny` with one seed on each device and prints the losses side by side, the seconds per step,
and the largest relative difference from the first device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def train(device: str, steps: int, folder: Path) -> tuple[list[float], float]:
    """The loss of every step, and the median seconds of one."""
    out = folder / device.replace(":", "-")
    flags = {"device": device, "seed": 1, "max-iters": steps, "log-interval": 1, "out": out}
    flags |= {"eval-interval": steps, "eval-iters": 1, "sample-tokens": 0}
    command = [sys.executable, "-m", "groundup", "train", "tiny"]
    command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    subprocess.run(command, check=True, stdout=sys.stderr)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    tokens = 16 * 64  # batch and context of the preset
    speeds = [line["tokens_per_second"] for line in lines[1:]]
    return [line["loss"] for line in lines], tokens / statistics.median(speeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("devices", nargs="+")
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = {d: train(d, options.steps, Path(folder)) for d in options.devices}
    print("step", *(f"{device:>12}" for device in runs))
    for step, losses in enumerate(zip(*(losses for losses, _ in runs.values()), strict=True), 1):
        print(f"{step:4}", *(f"{loss:12.7f}" for loss in losses))
    first, *others = runs.items()
    print("seconds per step:", ", ".join(f"{d} {seconds:.3f}" for d, (_, seconds) in runs.items()))
    for device, (losses, _) in others:
        worst = max(abs(a - b) / abs(a) for a, b in zip(first[1][0], losses, strict=True))
        print(f"largest relative difference, {device} from {first[0]}: {worst:.1e}")


if __name__ == "__main__":
    main()

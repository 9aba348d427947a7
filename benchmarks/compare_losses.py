"""The same training run on several devices: do they learn the same thing?

    python benchmarks/compare_losses.py cpu webgpu:0 --steps 100
    python benchmarks/compare_losses.py cpu webgpu:0 --preset gpt-12m -- --batch-size 1

Trains a preset with one seed on each device, with the flags of `groundup train` that stand behind
`--`, and prints the losses side by side, the tokens per second, and the largest relative difference
from the first device. With `--nudged`, the first device's run comes once more, with one weight
moved by a unit in its last place: so far apart are two runs of the same thing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import groundup as gu
from groundup.cli.app import run
from groundup.models import GPT

NUDGE = "--nudge-a-weight"


def train(
    device: str, out: Path, options: argparse.Namespace, nudged: bool = False
) -> tuple[list[float], float]:
    """The loss of every step, and the median tokens per second."""
    flags = {"device": device, "seed": 1, "max-iters": options.steps, "log-interval": 1, "out": out}
    flags |= {"eval-interval": options.steps, "eval-iters": 1, "sample-tokens": 0}
    program = [__file__, NUDGE] if nudged else ["-m", "groundup"]
    command = [sys.executable, *program, "train", options.preset]
    command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    subprocess.run([*command, *options.flags], check=True, stdout=sys.stderr)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    speed = statistics.median(line["tokens_per_second"] for line in lines[1:])
    return [line["loss"] for line in lines], speed


def train_nudged(arguments: list[str]) -> None:
    """`groundup` with these arguments, but that a GPT's first weight of its first MLP is the next
    larger float.
    """
    initialise = GPT._initialise

    def nudge(self: GPT) -> None:
        initialise(self)
        weight = self.h[0].mlp.c_fc.weight
        values = weight.detach().numpy().copy()
        values[0, 0] = np.nextafter(values[0, 0], np.float32(np.inf))
        with gu.no_grad():
            weight.assign_(gu.from_numpy(values, weight.device))

    GPT._initialise = nudge  # type: ignore[method-assign]
    sys.exit(run(arguments))


def main() -> None:
    given = sys.argv[1:]
    ours, flags = given, []
    if "--" in given:
        ours, flags = given[: given.index("--")], given[given.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("devices", nargs="+")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--nudged", action="store_true")
    options = parser.parse_args(ours, argparse.Namespace(flags=flags))
    with tempfile.TemporaryDirectory() as folder:
        runs = {d: train(d, Path(folder) / d.replace(":", "-"), options) for d in options.devices}
        if options.nudged:
            first = options.devices[0]
            runs["nudged"] = train(first, Path(folder) / "nudged", options, nudged=True)
    print("step", *(f"{device:>12}" for device in runs))
    for step, losses in enumerate(zip(*(losses for losses, _ in runs.values()), strict=True), 1):
        print(f"{step:4}", *(f"{loss:12.7f}" for loss in losses))
    first, *others = runs.items()
    print("tokens per second:", ", ".join(f"{d} {speed:,.0f}" for d, (_, speed) in runs.items()))
    for device, (losses, _) in others:
        worst = max(abs(a - b) / abs(a) for a, b in zip(first[1][0], losses, strict=True))
        print(f"largest relative difference, {device} from {first[0]}: {worst:.1e}")


if __name__ == "__main__":
    if sys.argv[1:2] == [NUDGE]:
        train_nudged(sys.argv[2:])
    else:
        main()

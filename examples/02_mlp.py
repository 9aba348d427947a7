"""A multilayer perceptron learns to tell two spirals apart.

Run: python examples/02_mlp.py [--steps 400]
"""

import argparse
import math

import numpy as np

import groundup as gu
from groundup import nn, optim, random
from groundup.nn import functional as F


def two_spirals(points: int, seed: int) -> tuple[gu.Tensor, gu.Tensor]:
    """Points (N, 2) on two arms that wind around each other, and their arm: 0 or 1."""
    rng = np.random.default_rng(seed)
    arm = np.arange(points) % 2
    distance = np.sqrt(rng.uniform(0.02, 1.0, points))
    angle = 3 * math.pi * distance + math.pi * arm
    place = np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
    place += rng.normal(0, 0.02, place.shape)
    return gu.tensor(place, dtype="float32"), gu.tensor(arm, dtype="int32")


class MLP(nn.Module):
    def __init__(self, width: int = 64) -> None:
        self.layers = nn.Sequential(
            nn.Linear(2, width),
            nn.Tanh(),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Linear(width, 2),
        )

    def forward(self, x: gu.Tensor) -> gu.Tensor:
        return self.layers(x)


def accuracy(model: nn.Module, x: gu.Tensor, arm: gu.Tensor) -> float:
    with gu.no_grad():
        return (model(x).argmax(axis=-1) == arm).astype("float32").mean().item()


def draw(model: nn.Module, size: int = 25) -> str:
    """The plane as the model sees it, in characters."""
    line = np.linspace(-1.1, 1.1, size, dtype=np.float32)
    grid = np.stack(np.meshgrid(line, -line), axis=-1).reshape(-1, 2)
    with gu.no_grad():
        arms = model(gu.from_numpy(grid)).argmax(axis=-1).numpy().reshape(size, size)
    return "\n".join("".join(" #"[arm] * 2 for arm in row) for row in arms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    steps = parser.parse_args().steps

    random.manual_seed(0)
    x, arm = two_spirals(400, seed=1)
    x_test, arm_test = two_spirals(200, seed=2)
    model = MLP()
    optimizer = optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-3)
    print(model)
    print(f"{model.num_parameters():,} parameters")

    for step in range(1, steps + 1):
        loss = F.cross_entropy(model(x), arm)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 1 or step % max(1, steps // 8) == 0:
            right = accuracy(model, x_test, arm_test)
            print(f"step {step:4}: loss {loss.item():.4f}, right on new points {right:.0%}")
    print(draw(model))


if __name__ == "__main__":
    main()

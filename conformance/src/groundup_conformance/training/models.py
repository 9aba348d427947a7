"""The networks of level 3, each twice: as a module of groundup, and as a formula in float64.

Both begin from the same float32 bytes and see the same batches, made by NumPy from fixed seeds.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

from groundup import nn
from groundup.backends.api import Device
from groundup.models import GPT, GPTConfig
from groundup.nn import functional as F
from groundup.tensor import Tensor
from groundup_conformance.training import float64 as f64
from groundup_conformance.training.float64 import Ids, Value

Batch: TypeAlias = tuple[npt.NDArray[Any], Ids]
Values: TypeAlias = Mapping[str, Value]
Parameters: TypeAlias = dict[str, npt.NDArray[np.float32]]


@attrs.frozen
class Network:
    """A model of groundup with its float64 counterpart. `scale` is the width of initial weights."""

    name: str
    build: Callable[[Device], nn.Module]  # called with inputs and targets, it gives the mean loss
    reference: Callable[[Values, npt.NDArray[Any], Ids], Value]
    batch: Callable[[int], Batch]
    scale: float = 1.0

    def made(self, device: Device) -> nn.Module:
        """The module on `device` with the initial parameters."""
        module = self.build(device)
        module.load_state_dict(self.initial(module), strict=False)
        return module

    def initial(self, module: nn.Module) -> Parameters:
        """Matrices normal / sqrt(inputs), norms near 1, biases near 0; from the seed of a name."""
        found = {}
        for name, parameter in module.named_parameters():
            rng = _random(f"{self.name}.{name}")
            values = rng.standard_normal(parameter.shape)
            if parameter.ndim >= 2:
                values *= self.scale / math.sqrt(math.prod(parameter.shape[1:]))
            else:
                values = 0.1 * values + name.endswith("weight")
            found[name] = values.astype(np.float32)
        return found


def _random(seed: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(seed.encode())))


# ---- a perceptron with normalization ----

_INPUTS, _HIDDEN, _CLASSES = 12, 33, 7  # odd sizes, so that tails of tiles are in use


class Perceptron(nn.Module):
    """Two hidden layers, LayerNorm and RMSNorm, GELU and SiLU."""

    def __init__(self, device: Device) -> None:
        self.fc1 = nn.Linear(_INPUTS, _HIDDEN, device=device)
        self.norm1 = nn.LayerNorm(_HIDDEN, device=device)
        self.fc2 = nn.Linear(_HIDDEN, _HIDDEN, device=device)
        self.norm2 = nn.RMSNorm(_HIDDEN, device=device)
        self.fc3 = nn.Linear(_HIDDEN, _CLASSES, bias=False, device=device)

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of x (N, 12) and targets (N)."""
        x = F.gelu(self.norm1(self.fc1(x)))
        x = F.silu(self.norm2(self.fc2(x)))
        return F.cross_entropy(self.fc3(x), targets)


def _perceptron(p: Values, x: npt.NDArray[Any], targets: Ids) -> Value:
    h = f64.linear(Value(x), p["fc1.weight"], p["fc1.bias"])
    h = f64.gelu(f64.layer_norm(h, p["norm1.weight"], p["norm1.bias"]))
    h = f64.linear(h, p["fc2.weight"], p["fc2.bias"])
    h = f64.silu(f64.rms_norm(h, p["norm2.weight"]))
    return f64.cross_entropy(f64.linear(h, p["fc3.weight"]), targets)


def _points(step: int) -> Batch:
    """Points, each of the class that a fixed matrix gives it."""
    teacher = _random("perceptron").standard_normal((_INPUTS, _CLASSES))
    x = _random(f"perceptron {step}").standard_normal((31, _INPUTS)).astype(np.float32)
    return x, (x @ teacher).argmax(axis=1).astype(np.int32)


# ---- a small convolutional net ----


class ConvNet(nn.Module):
    """Two convolutions, BatchNorm and GroupNorm, ReLU and SiLU, both poolings."""

    def __init__(self, device: Device) -> None:
        # Without a bias: the mean that BatchNorm takes away would leave it no gradient but noise.
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1, bias=False, device=device)
        self.norm1 = nn.BatchNorm2d(6, device=device)
        self.conv2 = nn.Conv2d(6, 10, 3, stride=2, padding=1, device=device)
        self.norm2 = nn.GroupNorm(2, 10, device=device)
        self.fc = nn.Linear(10, 4, device=device)

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of x (N, 1, 12, 12) and targets (N)."""
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.avg_pool2d(F.silu(self.norm2(self.conv2(x))), 3)
        return F.cross_entropy(self.fc(x.flatten(1)), targets)


def _conv_net(p: Values, x: npt.NDArray[Any], targets: Ids) -> Value:
    h = f64.conv2d(Value(x), p["conv1.weight"], padding=1)
    h = f64.max_pool2d(f64.relu(f64.batch_norm(h, p["norm1.weight"], p["norm1.bias"])), 2)
    h = f64.conv2d(h, p["conv2.weight"], stride=2, padding=1)
    h = f64.add(h, f64.reshape(p["conv2.bias"], -1, 1, 1))
    h = f64.silu(f64.group_norm(h, p["norm2.weight"], p["norm2.bias"], groups=2))
    return f64.cross_entropy(f64.linear(f64.mean_pool(h), p["fc.weight"], p["fc.bias"]), targets)


def _images(step: int) -> Batch:
    """Noise with a bar in one of four directions."""
    rng = _random(f"images {step}")
    targets = rng.integers(0, 4, 9).astype(np.int32)
    x = rng.standard_normal((9, 1, 12, 12))
    for image, direction in zip(x[:, 0], targets, strict=True):
        place = rng.integers(2, 10)
        bars = (image[place], image[:, place], image.diagonal(), np.fliplr(image).diagonal())
        bar = bars[direction]
        bar.flags.writeable = True
        bar += 2.0
    return x.astype(np.float32), targets


# ---- a small GPT ----

CONFIG: Final = GPTConfig(n_layer=2, n_head=2, n_embd=34, block_size=72, vocab_size=19)


def _gpt_module(device: Device) -> GPT:
    module: GPT = GPT(CONFIG).to(device)
    return module


def gpt_logits(p: Values, ids: npt.NDArray[Any], config: GPTConfig = CONFIG) -> Value:
    """GPT-2's formula: logits (B, T, V) of ids (B, T)."""
    batch, length = ids.shape
    x = f64.add(f64.embedding(p["wte.weight"], ids), f64.pick(p["wpe.weight"], slice(0, length)))
    for layer in range(config.n_layer):
        name = f"h.{layer}"
        h = f64.layer_norm(x, p[f"{name}.ln_1.weight"], p[f"{name}.ln_1.bias"])
        h = f64.linear(h, p[f"{name}.attn.c_attn.weight"], p[f"{name}.attn.c_attn.bias"])
        packed = f64.reshape(h, batch, length, 3, config.n_head, config.n_embd // config.n_head)
        packed = f64.permute(packed, 2, 0, 3, 1, 4)  # (3, B, H, T, D)
        h = f64.attention(f64.pick(packed, 0), f64.pick(packed, 1), f64.pick(packed, 2))
        h = f64.reshape(f64.permute(h, 0, 2, 1, 3), batch, length, config.n_embd)
        h = f64.linear(h, p[f"{name}.attn.c_proj.weight"], p[f"{name}.attn.c_proj.bias"])
        x = f64.add(x, h)
        h = f64.layer_norm(x, p[f"{name}.ln_2.weight"], p[f"{name}.ln_2.bias"])
        h = f64.linear(h, p[f"{name}.mlp.c_fc.weight"], p[f"{name}.mlp.c_fc.bias"])
        h = f64.linear(
            f64.gelu_tanh(h), p[f"{name}.mlp.c_proj.weight"], p[f"{name}.mlp.c_proj.bias"]
        )
        x = f64.add(x, h)
    return f64.linear(f64.layer_norm(x, p["ln_f.weight"], p["ln_f.bias"]), p["wte.weight"])


def _gpt(p: Values, ids: npt.NDArray[Any], targets: Ids) -> Value:
    return f64.cross_entropy(gpt_logits(p, ids), targets)


def _text(step: int) -> Batch:
    """Sequences in which an id follows from the last one or from the one before, by turns."""
    rng = _random(f"text {step}")
    vocabulary, length = CONFIG.vocab_size, CONFIG.block_size
    ids = rng.integers(0, vocabulary, (2, length + 1))
    for t in range(2, length + 1):
        follows = 7 * ids[:, t - 1] + 3 if t % 2 else ids[:, t - 2] + 1
        ids[:, t] = np.where(rng.uniform(size=2) < 0.95, follows % vocabulary, ids[:, t])
    return ids[:, :-1].astype(np.int32), ids[:, 1:].astype(np.int32)


NETWORKS: Final = {
    network.name: network
    for network in (
        Network("mlp", Perceptron, _perceptron, _points),
        Network("conv", ConvNet, _conv_net, _images),
        Network("gpt", _gpt_module, _gpt, _text, scale=0.5),
    )
}

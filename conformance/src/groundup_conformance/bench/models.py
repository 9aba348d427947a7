"""Whole models: training steps eager and compiled, prefill, and decoding with a KV cache.

Losses and logits are held against a GPT in float64 NumPy that shares no code with groundup, on the
parameters of that moment, before timing and after. The host's clock takes the time, with one wait
at the end of a round. Work is counted on the device that computes nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, Final

import attrs
import numpy as np

import groundup
from groundup import nn, optim
from groundup.backends.api import Device
from groundup.backends.devices import device_for
from groundup.backends.null import NullDevice
from groundup.dtypes import float32
from groundup.models.gpt import GPT, KVCache
from groundup.ops.op import Cost
from groundup.tensor import Tensor
from groundup_conformance.bench.measure import Place
from groundup_conformance.bench.timing import WARM, Rounds, Runner
from groundup_conformance.bench.traced import MODELS, Model
from groundup_conformance.budgets.units import Array
from groundup_conformance.judging import Failed
from groundup_conformance.training.float64 import Value, cross_entropy
from groundup_conformance.training.models import gpt_logits

_KINDS: Final = ("train-eager", "train-compiled", "prefill", "decode")
TASKS: Final = tuple(f"{model.name}/{kind}" for model in MODELS for kind in _KINDS)
_CLOSE: Final = 2e-4  # of the loss, or of the largest logit; float32 against float64


@attrs.frozen(eq=False)
class Task:
    """Something to do again and again, and how to see that it is done right."""

    call: Callable[[int], object]
    check: Callable[[str], None]  # with when it is; raises Failed


def measure(name: str, place: Place, benchmark: Any) -> dict[str, Any]:
    """Run a task and put its figures into `benchmark`. Raises Failed for a wrong result."""
    model, kind = next((m, k) for m in MODELS for k in _KINDS if f"{m.name}/{k}" == name)
    device = place.device
    task = _task(model, kind, device)
    task.check("before timing")
    ours = Runner("groundup", task.call, device.synchronize)
    peers = [peer for each in place.peers if (peer := _peer(each, model, kind))]
    rounds = Rounds(ours, peers)
    benchmark.pedantic(rounds, rounds=rounds.count(place.effort), warmup_rounds=WARM)
    task.check("after timing")
    seconds = statistics.median(rounds.counted)
    work = _work(model, kind)
    rate = place.ceilings.rate(float32)
    least = {
        "memory bandwidth": work.bytes / place.ceilings.bandwidth(work.bytes, 0.5)[0],
        "arithmetic": work.flops / rate if rate else 0.0,
    }
    binding = max(least, key=lambda ceiling: least[ceiling])
    info = {
        "op": kind,
        "backend": device.info.name,
        "dtype": "float32",
        "regime": model.name,
        "device_seconds": seconds,
        "wall_seconds": seconds,
        "timer": "host",
        "counts": rounds.counts(device),
        "bytes": work.bytes,
        "flops": work.flops,
        "gbs": work.bytes / seconds / 1e9,
        "tflops": work.flops / seconds / 1e12,
        "ceiling": binding,
        "share": least[binding] / seconds,
        "checked": "float64",
        "ratio": rounds.ratios(),
    }
    benchmark.extra_info.update(info)
    return info


def _work(model: Model, kind: str) -> Cost:
    """Of one call, by the costs of the ops in it."""
    device = device_for("null")
    assert isinstance(device, NullDevice)
    task = _task(model, kind.replace("compiled", "eager"), device)
    device.work.reset()
    task.call(0)
    return Cost(device.work.flops, device.work.bytes)


def _task(model: Model, kind: str, device: Device) -> Task:
    groundup.manual_seed(1337)
    network: GPT = GPT(model.config).to(device)
    if kind.startswith("train"):
        return _training(network, model, device, compiled=kind == "train-compiled")
    return (
        _decoding(network, model, device) if kind == "decode" else _prefill(network, model, device)
    )


def _ids(model: Model, batch: int) -> Array:
    rng = np.random.default_rng(0)
    shape = (2, batch, model.length)
    return rng.integers(0, model.config.vocab_size, shape, dtype=np.int32)


def _training(network: GPT, model: Model, device: Device, *, compiled: bool) -> Task:
    """Forward, backward, clipping, AdamW."""
    optimizer = optim.AdamW(network.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    ids, targets = _ids(model, model.batch)
    x, y = (groundup.tensor(part, device=device) for part in (ids, targets))

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = network(x, y)
        loss.backward()
        nn.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    taken = groundup.compile(step) if compiled else step

    def check(when: str) -> None:
        logits = gpt_logits(_values(network), ids, model.config)
        wanted = float(cross_entropy(logits, targets).data)
        got = float(taken(x, y))
        if not abs(got - wanted) <= _CLOSE * wanted:
            raise Failed(f"the loss {when} is {got:.6f}, not {wanted:.6f}")

    return Task(lambda number: taken(x, y), check)


def _prefill(network: GPT, model: Model, device: Device) -> Task:
    """The logits of a whole context, without gradients."""
    ids = _ids(model, 1)[0]
    x = groundup.tensor(ids, device=device)

    def run() -> Tensor:
        with groundup.no_grad():
            out: Tensor = network(x)
            return out

    def check(when: str) -> None:
        _require_close(run().numpy()[0, -1], _last_logits(network, model, ids), when)

    return Task(lambda number: run(), check)


def _decoding(network: GPT, model: Model, device: Device) -> Task:
    """One token behind half a context, the same one each time; compiled, as generation does."""
    half = model.length // 2
    ids = _ids(model, 1)[0]
    x = groundup.tensor(ids, device=device)
    first, token = x[:, :half], x[:, half : half + 1].clone()
    cache = KVCache(model.config, device=device)

    @groundup.compile
    def step(token: Tensor) -> Tensor:
        cache.position.assign_(half)
        return network.logits(token, cache)

    def run() -> Tensor:
        with groundup.no_grad():
            out: Tensor = step(token)
            return out

    with groundup.no_grad():
        network(first, cache=cache)

    def check(when: str) -> None:
        _require_close(run().numpy()[0, -1], _last_logits(network, model, ids[:, : half + 1]), when)

    return Task(lambda number: run(), check)


def _values(network: GPT) -> dict[str, Value]:
    return {name: Value(p.detach().numpy()) for name, p in network.named_parameters()}


def _last_logits(network: GPT, model: Model, ids: Array) -> Array:
    last: Array = gpt_logits(_values(network), ids, model.config).data[0, -1]
    return last


def _require_close(got: Array, wanted: Array, when: str) -> None:
    apart, size = float(np.abs(got - wanted).max()), float(np.abs(wanted).max())
    if not apart <= 5 * _CLOSE * size:
        raise Failed(f"logits {when} are off by {apart:.3g}, where the largest is {size:.3g}")


def _peer(peer: Any, model: Model, kind: str) -> Runner | None:
    if peer.name != "torch":
        return None
    from groundup_conformance.bench.peers.torch_models import call

    return Runner(peer.name, call(peer, model, kind), peer.wait)

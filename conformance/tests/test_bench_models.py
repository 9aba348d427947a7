"""Models are benchmarked with their losses and logits held against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from groundup.backends.devices import device_for
from groundup.models.gpt import GPTConfig
from groundup_conformance.bench import models
from groundup_conformance.bench.ceilings import Ceilings
from groundup_conformance.bench.measure import Place
from groundup_conformance.bench.peers import torch_models
from groundup_conformance.bench.timing import Effort
from groundup_conformance.bench.traced import Model
from groundup_conformance.judging import Failed

TINY = Model(
    "tiny", GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=16, vocab_size=29), batch=2
)


class Given(Ceilings):
    """Ceilings of a device that is quicker than any."""

    def bandwidth(self, footprint: int, written: float) -> tuple[float, str]:
        return 1e18, "copy"

    def rate(self, dtype: Any) -> float | None:
        return 1e18


class Benchmark:
    """Stands for pytest-benchmark's fixture."""

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}

    def pedantic(self, target: Any, rounds: int, warmup_rounds: int) -> None:
        for _ in range(rounds + warmup_rounds):
            target()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(models, "MODELS", (TINY,))
    device = device_for("cpu")
    return Place(device, Effort(0.0, 2, 2, 1 << 16), Given(device, 1 << 20))


@pytest.mark.parametrize("kind", ["train-eager", "train-compiled", "prefill", "decode"])
def test_a_task_is_measured(place: Place, kind: str) -> None:
    benchmark = Benchmark()
    info = models.measure(f"tiny/{kind}", place, benchmark)
    assert benchmark.extra_info == info
    assert (info["op"], info["regime"], info["checked"]) == (kind, "tiny", "float64")
    assert info["counts"]["launches"] > 10
    assert info["counts"]["compiled"] == info["counts"]["bytes_allocated"] == 0
    assert info["flops"] > 5_000
    assert info["device_seconds"] > 0


def test_a_step_counts_the_backward_pass_too(place: Place) -> None:
    step = models.measure("tiny/train-eager", place, Benchmark())
    prefill = models.measure("tiny/prefill", place, Benchmark())
    assert step["flops"] > 2 * TINY.batch * prefill["flops"]


@pytest.mark.parametrize("kind", ["train-eager", "prefill", "decode"])
def test_a_model_that_computes_something_else_fails(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = models.gpt_logits

    def other(*arguments: Any) -> Any:
        value = real(*arguments)
        value.data = value.data * 1.01 + 0.01 * np.arange(value.data.shape[-1])
        return value

    monkeypatch.setattr(models, "gpt_logits", other)
    with pytest.raises(Failed, match="before timing"):
        models.measure(f"tiny/{kind}", place, Benchmark())


def test_torchs_next_token_is_that_of_the_whole_context() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config, half = TINY.config, TINY.length // 2
    network = torch_models._network(torch, config)
    ids = torch.randint(0, config.vocab_size, (1, TINY.length))
    decode = torch_models._decode(torch, network, ids, config)
    with torch.no_grad():
        whole = network(ids[:, : half + 1])[:, -1:]
    for number in range(2):
        torch.testing.assert_close(decode(number), whole)

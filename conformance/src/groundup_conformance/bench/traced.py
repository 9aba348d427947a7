"""The ops of real models, with the shapes and strides that they have there.

A training step runs on a device that computes nothing; what the core planned for it is the list.
Nobody has to keep it up to date.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

import attrs

import groundup
from groundup import nn, optim
from groundup.backends.devices import device_for
from groundup.layout import Layout
from groundup.models.gpt import GPT, GPTConfig
from groundup.ops.lower import RunKernel
from groundup.ops.op import Op
from groundup_conformance.bench.shapes import dtypes_of
from groundup_conformance.bench.works import Work


@attrs.frozen
class Model:
    """A model and the batch that it trains on."""

    name: str
    config: GPTConfig
    batch: int

    @property
    def length(self) -> int:
        """Tokens of a sequence."""
        return self.config.block_size


GPT_12M: Final = Model(
    "gpt-12m", GPTConfig(n_layer=6, n_head=6, n_embd=384, block_size=256, vocab_size=4096), 8
)
GPT_2: Final = Model("gpt2-124m", GPTConfig(), 1)
_LEAST: Final = 1 << 12  # elements: smaller work is all start, which the regime `launch` shows
MODELS: Final = (GPT_12M, GPT_2)


def works(model: Model) -> Iterator[Work]:
    """Every op of a training step that has a kernel, once per signature, heaviest first."""
    found: dict[str, Work] = {}
    for op, layouts in _signatures(model):
        if max((layout.size for layout in layouts), default=0) > _LEAST:
            work = Work(op, layouts, _main(layouts), model.name)
            found.setdefault(work.name, work)
    yield from sorted(found.values(), key=lambda work: -work.cost.bytes)


@cache
def _signatures(model: Model) -> tuple[tuple[Op, tuple[Layout, ...]], ...]:
    device = device_for("null")
    network = GPT(model.config).to(device)
    device.plans.clear()
    optimizer = optim.AdamW(network.parameters(), lr=3e-4, weight_decay=0.1)
    shape = (model.batch, model.length)
    ids = groundup.zeros(shape, dtype=groundup.int32, device=device)
    loss = network(ids, ids)
    loss.backward()
    nn.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return tuple(
        (key[0], tuple(key[1:])) for key, plan in device.plans.items() if type(plan) is RunKernel
    )


def _main(layouts: tuple[Layout, ...]) -> groundup.dtypes.DType:
    floats = [d for d in dtypes_of([x.spec for x in layouts]) if d.is_floating]
    return floats[0] if floats else layouts[0].dtype

"""The same GPT in PyTorch, as its users would write it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from groundup_conformance.bench.traced import Model


def call(peer: Any, model: Model, kind: str) -> Callable[[int], Any] | None:
    """A training step or a prefill, eager; None for what is not written here."""
    torch = import_module("torch")
    place, config = peer.array_place, model.config
    if not kind.startswith(("train", "prefill")):
        return None
    torch.manual_seed(0)
    network = _network(torch, config).to(place)
    batch = model.batch if kind.startswith("train") else 1
    ids = torch.randint(0, config.vocab_size, (2, batch, model.length), device=place)
    if kind == "prefill":

        def prefill(number: int) -> Any:
            with torch.no_grad():
                return network(ids[0])

        return prefill
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )

    def step(number: int) -> Any:
        logits = network(ids[0]).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, ids[1].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def _network(torch: Any, config: Any) -> Any:
    nn, F = torch.nn, torch.nn.functional
    width, heads = config.n_embd, config.n_head

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            B, T, C = x.shape
            packed = self.qkv(self.ln_1(x)).view(B, T, 3, heads, C // heads).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*packed, is_causal=True)
            x = x + self.proj(mixed.transpose(1, 2).reshape(B, T, C))
            return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))

    class Model(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(config.vocab_size, width)
            self.wpe = nn.Embedding(config.block_size, width)
            self.blocks = nn.Sequential(*[Block() for _ in range(config.n_layer)])
            self.ln_f = nn.LayerNorm(width)
            for parameter in self.parameters():
                if parameter.ndim > 1:
                    nn.init.normal_(parameter, std=0.02)

        def forward(self, ids: Any) -> Any:
            x = self.blocks(self.wte(ids) + self.wpe.weight[: ids.shape[1]])
            return self.ln_f(x) @ self.wte.weight.T

    return Model()

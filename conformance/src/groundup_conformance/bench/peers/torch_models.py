"""The same GPT in PyTorch, as its users would write it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from groundup_conformance.bench.traced import Model


def call(peer: Any, model: Model, kind: str) -> Callable[[int], Any]:
    """A training step, a prefill, or one token more, eager."""
    torch = import_module("torch")
    place, config = peer.array_place, model.config
    torch.manual_seed(0)
    network = _network(torch, config).to(place)
    batch = model.batch if kind.startswith("train") else 1
    ids = torch.randint(0, config.vocab_size, (2, batch, model.length), device=place)
    if kind == "prefill":

        def prefill(number: int) -> Any:
            with torch.no_grad():
                return network(ids[0])

        return prefill
    if kind == "decode":
        return _decode(torch, network, ids[0], config)
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


def _decode(torch: Any, network: Any, ids: Any, config: Any) -> Callable[[int], Any]:
    """One token behind half a context, with keys and values in memory that was set aside."""
    half, width = ids.shape[1] // 2, config.n_embd // config.n_head
    shape = (config.n_layer, 2, 1, config.n_head, config.block_size, width)
    caches = torch.zeros(shape, device=ids.device)
    with torch.no_grad():
        network(ids[:, :half], caches)

    def decode(number: int) -> Any:
        with torch.no_grad():
            return network(ids[:, half : half + 1], caches, half)

    return decode


def _network(torch: Any, config: Any) -> Any:
    nn, F = torch.nn, torch.nn.functional
    width, heads = config.n_embd, config.n_head

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any, cache: Any = None, start: int = 0) -> Any:
            B, T, C = x.shape
            packed = self.qkv(self.ln_1(x)).view(B, T, 3, heads, C // heads).permute(2, 0, 3, 1, 4)
            q, k, v = packed
            if cache is not None:
                cache[:, :, :, start : start + T] = packed[1:]
                k, v = cache[:, :, :, : start + T]
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
            x = x + self.proj(mixed.transpose(1, 2).reshape(B, T, C))
            return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))

    class Model(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(config.vocab_size, width)
            self.wpe = nn.Embedding(config.block_size, width)
            self.blocks = nn.ModuleList([Block() for _ in range(config.n_layer)])
            self.ln_f = nn.LayerNorm(width)
            for parameter in self.parameters():
                if parameter.ndim > 1:
                    nn.init.normal_(parameter, std=0.02)

        def forward(self, ids: Any, caches: Any = None, start: int = 0) -> Any:
            x = self.wte(ids) + self.wpe.weight[start : start + ids.shape[1]]
            for layer, block in enumerate(self.blocks):
                x = block(x, None if caches is None else caches[layer], start)
            return self.ln_f(x) @ self.wte.weight.T

    return Model()

"""GPT in GPT-2's architecture: pre-norm blocks, learned positions, the head tied to the embedding.

Source: Radford et al., "Language models are unsupervised multitask learners", 2019. The shape of
this file is nanoGPT's (https://github.com/karpathy/nanoGPT).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import attrs

import groundup as gu
from groundup import dispatch, nn, ops, random
from groundup.backends.devices import DeviceLike
from groundup.dtypes import int32
from groundup.errors import ConfigError, ShapeError
from groundup.ops.indexing import DynamicUpdateSlice
from groundup.tensor import Tensor


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The sizes of a GPT; the defaults are GPT-2's smallest. Raises ConfigError if they clash."""

    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    block_size: int = 1024  # the longest context
    vocab_size: int = 50257
    dropout: float = 0.0
    bias: bool = True

    def __post_init__(self) -> None:
        sizes = (self.n_layer, self.n_head, self.n_embd, self.block_size, self.vocab_size)
        if min(sizes) < 1:
            raise ConfigError(f"GPT: sizes must be at least 1, got {self}")
        if self.n_embd % self.n_head:
            raise ConfigError(
                f"GPT: n_embd {self.n_embd} is not a multiple of n_head {self.n_head}"
            )


class KVCache:
    """Keys and values of the tokens so far, so that each new token costs one row of attention.

    Per layer two buffers (batch, heads, block_size, width) on the device, written in place; the
    first `used` rows are filled. The device has that number too, as `position`, an int32 scalar:
    one compiled program serves every place.
    """

    def __init__(self, config: GPTConfig, batch: int = 1, device: DeviceLike = None) -> None:
        width = config.n_embd // config.n_head
        shape = (batch, config.n_head, config.block_size, width)
        self.keys = [gu.zeros(shape, device=device) for _ in range(config.n_layer)]
        self.values = [gu.zeros(shape, device=device) for _ in range(config.n_layer)]
        self.position = gu.zeros((), dtype=int32, device=device)
        self.used = 0

    def reserve(self, tokens: int) -> None:
        """Count `tokens` that are to come. Raises ShapeError if they do not fit."""
        end, size = self.used + tokens, self.keys[0].shape[2]
        if end > size:
            raise ShapeError(f"GPT: {end} tokens do not fit the context of {size}")
        self.used = end

    def rewind(self, used: int) -> None:
        """Forget all but the first `used` tokens. Raises ShapeError if there are fewer."""
        if not 0 <= used <= self.used:
            raise ShapeError(f"KVCache: cannot go back to {used} tokens, there are {self.used}")
        self.position.assign_(used)
        self.used = used

    def behind(self, tokens: int) -> Rows:
        """Where the next `tokens` go."""
        position = self.position
        return Rows(
            self,
            starts=ops.pad(position.reshape(1), before=(2,), after=(1,)),
            places=position + gu.arange(tokens, device=position.device),
            length=position + tokens,
        )


@attrs.frozen(eq=False)
class Rows:
    """Some new rows of a cache: their `places` (T), where their windows start, and its length."""

    cache: KVCache
    starts: Tensor
    places: Tensor
    length: Tensor

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write `k` and `v` (batch, heads, T, width) into the rows of `layer`; attend to all."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        for buffer, rows in ((keys, k), (values, v)):
            dispatch.update(DynamicUpdateSlice(), (buffer, rows, self.starts))
        return ops.cached_attention(q, keys, values, self.length)


class CausalSelfAttention(nn.Module):
    """Every token looks at itself and the ones before it."""

    def __init__(self, config: GPTConfig) -> None:
        self.n_head, self.dropout = config.n_head, config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)  # q, k, v
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rows: Rows | None = None, layer: int = 0) -> Tensor:
        """Mix x (B, T, C) over T; as `rows` of a cache, also with those before them."""
        B, T, C = x.shape
        packed = self.c_attn(x).reshape(B, T, 3, self.n_head, C // self.n_head)
        q, k, v = (part.permute(0, 2, 1, 3) for part in ops.unstack(packed, axis=2))  # (B, H, T, D)
        if rows is None:
            y = self._attend(q, k, v)
        else:
            y = rows.attend(layer, q, k, v)
        y = y.permute(0, 2, 1, 3).reshape(B, T, C)
        out: Tensor = self.resid_dropout(self.c_proj(y))
        return out

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        state = random.draw(q.device) if dropout else None
        return ops.scaled_dot_product_attention(q, k, v, causal=True, dropout=dropout, state=state)


class MLP(nn.Module):
    """Four times as wide inside, with GPT-2's approximate GELU."""

    def __init__(self, config: GPTConfig) -> None:
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Each position of x (B, T, C) by itself."""
        out: Tensor = self.dropout(self.c_proj(self.c_fc(x).gelu("tanh")))
        return out


class Block(nn.Module):
    """Attention and MLP, each on a normalized copy of the residual stream, added back to it."""

    def __init__(self, config: GPTConfig) -> None:
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rows: Rows | None = None, layer: int = 0) -> Tensor:
        """x (B, T, C) to (B, T, C)."""
        x = x + self.attn(self.ln_1(x), rows, layer)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class GPT(nn.Module):
    """Token ids (B, T) to logits (B, T, vocab_size), or with targets to the mean loss."""

    def __init__(self, config: GPTConfig) -> None:
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)  # also the head
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, bias=config.bias)
        self._initialise()

    def _initialise(self) -> None:
        """GPT-2's: normal, std 0.02; what adds to the residual stream shrinks with the depth."""
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                residual = name.endswith("c_proj.weight")
                scale = 1 / math.sqrt(2 * self.config.n_layer) if residual else 1.0
                nn.init.normal_(parameter, std=0.02 * scale)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Logits (B, T, V) of `ids` (B, T) int32; the mean cross-entropy if `targets` (B, T).

        With `cache`, `ids` follow the cached tokens, and the cache grows by them. Raises
        ShapeError for more tokens than `block_size`. After any error the cache is as before.
        """
        if cache is None:
            logits = self.logits(ids)
        else:
            before = cache.used
            cache.reserve(ids.shape[1])
            try:
                logits = self.logits(ids, cache)
            except BaseException:  # the device has not counted them either
                cache.used = before
                raise
        return logits if targets is None else ops.cross_entropy(logits, targets)

    def logits(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Those of `forward`, by the device alone, which counts the cache's tokens last. What
        `cache.reserve` counts is the caller's: a function that calls this can be compiled.

        Raises ShapeError.
        """
        T = ids.shape[1]
        if self.config.block_size < T:
            raise ShapeError(f"GPT: {T} tokens do not fit the context of {self.config.block_size}")
        rows = None if cache is None else cache.behind(T)
        places = self.wpe.weight[:T] if rows is None else self.wpe(rows.places)
        x = self.drop(self.wte(ids) + places)
        for layer, block in enumerate(self.h):
            x = block(x, rows, layer)
        logits = ops.linear(self.ln_f(x), self.wte.weight)
        if rows is not None:
            rows.cache.position.assign_(rows.length)
        return logits

    def parameter_groups(self, weight_decay: float) -> list[dict[str, object]]:
        """Matrices and embeddings decay; biases and norms do not."""
        matrices = [p for p in self.parameters() if p.ndim >= 2]
        vectors = [p for p in self.parameters() if p.ndim < 2]
        groups: list[dict[str, object]] = [{"params": matrices, "weight_decay": weight_decay}]
        return [*groups, {"params": vectors, "weight_decay": 0.0}] if vectors else groups

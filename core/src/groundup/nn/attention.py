"""MultiHeadAttention."""

from __future__ import annotations

from itertools import pairwise

from groundup import ops
from groundup.backends.devices import DeviceLike
from groundup.dtypes import DTypeLike, float32
from groundup.errors import ConfigError
from groundup.nn import functional as F
from groundup.nn import init
from groundup.nn.linear import Linear, blank
from groundup.nn.module import Module
from groundup.tensor import Tensor


class MultiHeadAttention(Module):
    """softmax(q k^T / sqrt(d)) v in `num_heads` heads of width d (Vaswani et al., 2017).

    Batch first. Queries, keys and values come from one packed weight, `in_proj_weight` (PyTorch's
    name and order), so self-attention projects with one matmul. With `num_kv_heads` fewer than
    `num_heads`, groups of queries share keys and values (Ainslie et al., 2023). Raises ConfigError
    for heads that do not divide.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        num_kv_heads: int | None = None,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = float32,
    ) -> None:
        kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1 or embed_dim % num_heads or kv_heads < 1 or num_heads % kv_heads:
            raise ConfigError(
                f"MultiHeadAttention: width {embed_dim} does not split in {num_heads} heads "
                f"with {kv_heads} for keys and values"
            )
        self.embed_dim, self.num_heads, self.num_kv_heads = embed_dim, num_heads, kv_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = F.probability(dropout, "MultiHeadAttention")
        width = embed_dim + 2 * kv_heads * self.head_dim
        self.in_proj_weight = blank(width, embed_dim, device=device, dtype=dtype)
        self.in_proj_bias = blank(width, device=device, dtype=dtype) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values again."""
        init.xavier_uniform_(self.in_proj_weight)
        self.out_proj.reset_parameters()
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Attend from query (B, T, embed_dim) to key and value (B, S, embed_dim), shaped as query.

        `key` is the query and `value` is the key unless given. `mask`, broadcast to (B, heads, T,
        S), is bool (True: attend) or float (added); `causal` lets position t see positions up to t
        only.
        """
        q, k, v = self._projected(query, key, value)
        y = F.scaled_dot_product_attention(
            _heads(q, self.num_heads), _heads(k, self.num_kv_heads), _heads(v, self.num_kv_heads),
            mask, causal=causal, dropout=self.dropout if self.training else 0.0,
        )  # fmt: skip
        batch, length = query.shape[:2]
        merged: Tensor = self.out_proj(y.permute(0, 2, 1, 3).reshape(batch, length, self.embed_dim))
        return merged

    def _projected(
        self, query: Tensor, key: Tensor | None, value: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        kv = self.num_kv_heads * self.head_dim
        cuts = (0, self.embed_dim, self.embed_dim + kv, self.embed_dim + 2 * kv)
        slices = [slice(start, stop) for start, stop in pairwise(cuts)]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if key is None and value is None:
            packed = ops.linear(query, weight, bias)
            if kv == self.embed_dim:
                return _thirds(packed)
            q, k, v = (packed[..., part] for part in slices)
        else:
            key = query if key is None else key
            sources = (query, key, key if value is None else value)
            q, k, v = (
                ops.linear(source, weight[part], None if bias is None else bias[part])
                for source, part in zip(sources, slices, strict=True)
            )
        return q, k, v

    def extra_repr(self) -> str:
        kv = f", num_kv_heads={self.num_kv_heads}" if self.num_kv_heads != self.num_heads else ""
        return f"{self.embed_dim}, num_heads={self.num_heads}{kv}, dropout={self.dropout}"


def _thirds(packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The last axis in three; one node, so that the gradient is one stack instead of three pads."""
    *lead, width = packed.shape
    q, k, v = ops.unstack(packed.reshape(*lead, 3, width // 3), axis=-2)
    return q, k, v


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads * d) as (B, heads, T, d), without a copy."""
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).permute(0, 2, 1, 3)

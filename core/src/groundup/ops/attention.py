"""Attention: scaled_dot_product_attention and its gradient, attention over a key-value cache.

The gradient needs no T x S matrix from the forward pass: each row's logsumexp brings the
probabilities back (Dao et al., "FlashAttention", 2022; Milakov and Gimelshein, "Online normalizer
calculation for softmax", 2018).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup import dtypes as dt
from groundup.errors import ConfigError, DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED
from groundup.ops.filling import positions
from groundup.ops.loss import wide
from groundup.ops.op import Cost, Ctx, Op
from groundup.ops.random_ops import Dropout, check_state, sample_state
from groundup.ops.samples import BadCase, Case, Make, Operand
from groundup.shapes import broadcast_shapes

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["scaled_dot_product_attention"]


class Attention(Op):
    """What the forward and the backward op share: parameters, shape rules, scores."""

    scale: float
    causal: bool = False
    dropout: float = 0.0
    masked: bool = False  # whether the first extra input is a mask
    accuracy = COMPOSED

    def check(self, q: Spec, k: Spec, v: Spec, extras: Sequence[Spec]) -> Spec:
        """The output's Spec. Raises ShapeError, DTypeError, ConfigError."""
        heads_first(self.name, q, k, v)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"{self.name}: dropout must lie in [0, 1), got {self.dropout}")
        wanted = self.masked + (self.dropout > 0)
        if len(extras) != wanted:
            raise ConfigError(
                f"{self.name}: got {len(extras)} inputs after v, needs {wanted}",
                hint="a mask if there is one, then the random state if dropout is not 0",
            )
        if self.masked:
            self._check_mask(q, k, extras[0])
        if self.dropout:
            check_state(self.name, extras[-1])
        return Spec((*q.shape[:3], v.shape[3]), q.dtype)

    def _check_mask(self, q: Spec, k: Spec, mask: Spec) -> None:
        scores = (*q.shape[:3], k.shape[2])
        if mask.dtype not in (dt.bool_, q.dtype, wide(q.dtype)):
            raise DTypeError(f"{self.name}: mask must be bool or {q.dtype}, got {mask}")
        if mask.rank > 4 or broadcast_shapes(mask.shape, scores, op=self.name) != scores:
            raise ShapeError(f"{self.name}: mask {mask} does not broadcast to the scores {scores}")

    def split(self, extras: Sequence[Any]) -> tuple[Any, Any]:
        """(mask or None, state or None)."""
        return (extras[0] if self.masked else None), (extras[-1] if self.dropout else None)

    def scores(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """q k^T scale (B, H, T, S), -inf where a query must not look."""
        found = (q @ k.mT) * self.scale
        if mask is not None and mask.dtype is dt.bool_:
            found = mask.where(found, -math.inf)
        elif mask is not None:
            found = found + mask.astype(found.dtype)
        if self.causal:
            rows, columns = positions(q, q.shape[2]), positions(q, k.shape[2])
            found = (rows.unsqueeze(1) >= columns).where(found, -math.inf)
        return found

    def drop(self, x: Tensor, state: Tensor | None) -> Tensor:
        """Dropout, the same each time for one state."""
        return x if state is None else Dropout(p=self.dropout)(x, state)

    def work(self, q: Spec, k: Spec, v: Spec, products: int) -> int:
        """Flops of `products` matrix products; a causal mask halves them."""
        pairs = q.size // max(q.shape[3], 1) * k.shape[2]
        full = products * pairs * (q.shape[3] + v.shape[3])
        return full // 2 if self.causal else full


def heads_first(op: str, q: Spec, k: Spec, v: Spec) -> None:
    """ShapeError or DTypeError unless q (B, H, T, D), k (B, G, S, D), v (B, G, S, E) agree."""
    got = f"got q {q}, k {k}, v {v}"
    if not q.rank == k.rank == v.rank == 4:
        raise ShapeError(f"{op}: q, k and v must have shape (batch, heads, length, size), {got}")
    if k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise ShapeError(f"{op}: q, k and v must agree in batch, size and length, {got}")
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        raise ShapeError(f"{op}: the heads of q must be a multiple of those of k and v, {got}")
    if not (q.dtype is k.dtype is v.dtype and q.dtype.is_floating):
        raise DTypeError(f"{op}: q, k and v must have one floating dtype, {got}")


def shared_heads(x: Tensor, heads: int) -> Tensor:
    """Each head of x repeated, so that there are `heads`: query head h reads head h // group."""
    return x if x.shape[1] == heads else x.repeat(heads // x.shape[1], axis=1)


def _grouped(x: Tensor, heads: int) -> Tensor:
    """The sum over the query heads that share a head."""
    B, H, S, D = x.shape
    return x if heads == H else x.reshape(B, heads, H // heads, S, D).sum(axis=2)


class ScaledDotProductAttention(Attention, name="scaled_dot_product_attention", family="attention"):
    """softmax(q k^T * scale + mask) v (Vaswani et al., 2017), and each row's logsumexp of scores.

    q (B, H, T, D), k (B, G, S, D), v (B, G, S, E) give (B, H, T, E) and (B, H, T); query head h
    reads head h // (H / G) of k and v. Extra inputs: a mask if `masked` (bool, true where a query
    may look, or floats that are added to the scores), then a random state if `dropout` > 0.
    `causal`: query i sees keys j <= i. Rows that see nothing are 0, with logsumexp -inf and
    gradients of 0. Dropout acts on the probabilities, with the bits of `random_bits` of shape
    (B, H, T, S). Accumulates in float32.
    """

    outputs = ("out", "logsumexp")
    differentiable = (0, 1)
    saves = ("q", "k", "v", "extras", "out", "logsumexp")

    def infer(self, q: Spec, k: Spec, v: Spec, *extras: Spec) -> tuple[Spec, Spec]:
        return self.check(q, k, v, extras), Spec(q.shape[:3], wide(q.dtype))

    def compose(self, q: Tensor, k: Tensor, v: Tensor, *extras: Tensor) -> tuple[Tensor, Tensor]:
        mask, state = self.split(extras)
        kind, heads = wide(q.dtype), q.shape[1]
        k, v = (shared_heads(x.astype(kind), heads) for x in (k, v))
        scores = self.scores(q.astype(kind), k, mask)
        if not k.shape[2]:
            return (scores @ v).astype(q.dtype), scores.sum(axis=-1).log()
        top = scores.max(axis=-1, keepdims=True)
        top = (top == -math.inf).where(0, top)
        weights = (scores - top).exp()
        total = weights.sum(axis=-1, keepdims=True)
        out = self.drop(weights, state) @ v / (total == 0).where(1, total)
        return out.astype(q.dtype), (total.log() + top).squeeze(-1)

    def vjp(self, ctx: Ctx, grad: Tensor, grad_logsumexp: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *extras, out, logsumexp = ctx.saved
        op = ScaledDotProductAttentionBackward(
            scale=self.scale, causal=self.causal, dropout=self.dropout, masked=self.masked
        )
        inputs = (q, k, v, out, logsumexp, grad, grad_logsumexp, *extras)
        results: list[Tensor | None] = [*op.many(*inputs), *[None] * len(extras)]
        if self.masked and ctx.needs[3]:
            results[3] = op.mask_gradient(*inputs)
        return tuple(results)

    def cost(self, q: Spec, k: Spec, v: Spec, *extras: Spec) -> Cost:
        moved = sum(spec.nbytes for spec in (q, k, v, *extras, *self.infer(q, k, v, *extras)))
        return Cost(self.work(q, k, v, 2), moved)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, op, shapes, extras, tags in _variants(cls, make):
            inputs = [make.normal(*shape) for shape in shapes]
            yield Case(op, (*inputs, *extras), name, frozenset(tags))
        op = cls(scale=0.5, causal=True)
        packed = [make.normal(2, 5, 12, view=_head(i)) for i in range(3)]
        yield Case(op, tuple(packed), "packed", frozenset({"view"}))
        large = [make.normal(1, 1, 4, 8, scale=30.0) for _ in range(3)]
        yield Case(op, tuple(large), "extreme", frozenset({"special"}))
        nan = np.ones((1, 1, 3, 2))
        nan[0, 0, 1, 0] = np.nan
        plain = np.ones((1, 1, 3, 2))
        special = (make.values(nan), make.values(plain), make.values(plain))
        yield Case(op, special, "nan", frozenset({"nan", "special"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        op, q = cls(scale=1.0), make.normal(1, 4, 3, 8)
        yield BadCase(op, (q, q, make.normal(3, 8)), ShapeError, "(batch, heads, length, size)")
        yield BadCase(op, (q, q, make.normal(1, 4, 5, 8)), ShapeError, "must agree")
        three = make.normal(1, 3, 3, 8)
        yield BadCase(op, (q, three, three), ShapeError, "multiple of those of k and v")
        yield BadCase(op, (q, q, make.of(dt.int32, 1, 4, 3, 8)), DTypeError, "one floating dtype")
        masked = cls(scale=1.0, masked=True)
        yield BadCase(masked, (q, q, q), ConfigError, "needs 1")
        yield BadCase(masked, (q, q, q, make.bools(2, 3)), ShapeError, "broadcast")
        yield BadCase(masked, (q, q, q, make.of(dt.int32, 3, 3)), DTypeError, "mask must be bool")
        dropped = cls(scale=1.0, dropout=1.0)
        yield BadCase(dropped, (q, q, q, sample_state()), ConfigError, "dropout must lie in [0, 1)")


def _head(which: int) -> Any:
    """q, k or v of a packed (B, T, 3 H D) array, as (B, H, T, D) with H = 2, D = 2."""

    def view(x: Any) -> Any:
        B, T, _ = x.shape
        rows = x.reshape(B, T, 3, 2, 2)[:, :, which]
        return rows.transpose(0, 2, 1, 3) if isinstance(x, np.ndarray) else rows.permute(0, 2, 1, 3)

    return view


def _variants(cls: type[Any], make: Make) -> Iterator[tuple[str, Any, Any, Any, set[str]]]:
    """(name, op, shapes of q, k and v, extra operands, tags)."""
    plain, square = {"scale": 0.5}, ((2, 3, 5, 4),) * 3
    state = sample_state()
    yield "plain", cls(**plain), square, (), set()
    yield "causal", cls(**plain, causal=True), square, (), set()
    yield "long", cls(**plain, causal=True), ((1, 1, 150, 8),) * 3, (), set()
    yield "one", cls(**plain), ((1, 1, 1, 1),) * 3, (), set()
    cross = ((1, 2, 3, 4), (1, 2, 7, 4), (1, 2, 7, 6))
    yield "cross", cls(**plain), cross, (), set()
    yield "cross-causal", cls(**plain, causal=True), cross, (), set()
    grouped = ((2, 6, 4, 4), (2, 2, 5, 4), (2, 2, 5, 4))
    yield "grouped", cls(**plain, causal=True), grouped, (), set()
    rows = ([1, 0, 1, 1, 0], [0] * 5, [1] * 5, [0, 0, 0, 0, 1], [1, 1, 0, 0, 0])
    mask = Operand(np.array(rows) > 0)
    yield "mask", cls(**plain, masked=True), square, (mask,), {"masked-row"}
    yield "mask-causal", cls(**plain, masked=True, causal=True), square, (mask,), {"masked-row"}
    bias = make.normal(3, 1, 5)
    yield "bias", cls(**plain, masked=True), square, (bias,), set()
    yield "dropout", cls(**plain, dropout=0.25), square, (state,), set()
    both = cls(**plain, dropout=0.5, masked=True, causal=True)
    yield "mask-dropout", both, square, (make.normal(5, 5), state), set()
    shared = ((1, 4, 3, 4), (1, 2, 8, 4), (1, 2, 8, 4))
    yield "grouped-dropout", cls(**plain, dropout=0.25), shared, (state,), set()
    yield "no-queries", cls(**plain), ((2, 3, 0, 4), *square[1:]), (), {"empty"}
    yield "no-keys", cls(**plain), (square[0], (2, 3, 0, 4), (2, 3, 0, 4)), (), {"empty"}
    yield "no-batch", cls(**plain, causal=True), ((0, 3, 5, 4),) * 3, (), {"empty"}


class ScaledDotProductAttentionBackward(
    Attention, name="scaled_dot_product_attention_backward", family="attention"
):
    """Gradients of q, k and v from those of `out` and `logsumexp`.

    P = exp(scores - logsumexp); dV = drop(P)^T dO;
    dS = P (drop(dO V^T) - sum(dO out) + grad_logsumexp);
    dQ = dS K scale; dK = dS^T Q scale; heads of k and v sum over their query heads.
    """

    outputs = ("dq", "dk", "dv")
    differentiable = (0, 1, 2)
    saves = ("q", "k", "v", "out", "logsumexp", "grad", "grad_logsumexp", "extras")

    def infer(
        self, q: Spec, k: Spec, v: Spec, out: Spec, logsumexp: Spec, grad: Spec,
        grad_logsumexp: Spec, *extras: Spec,
    ) -> tuple[Spec, Spec, Spec]:  # fmt: skip
        wanted = self.check(q, k, v, extras)
        for name, spec in (("out", out), ("grad", grad)):
            if spec != wanted:
                raise ShapeError(f"{self.name}: {name} must be {wanted}, got {spec}")
        for name, spec in (("logsumexp", logsumexp), ("grad_logsumexp", grad_logsumexp)):
            if spec.shape != q.shape[:3]:
                raise ShapeError(f"{self.name}: {name} must be {q.shape[:3]}, got {spec}")
        return q, k, v

    def compose(
        self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logsumexp: Tensor, grad: Tensor,
        grad_logsumexp: Tensor, *extras: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        kind, (heads, groups) = wide(q.dtype), (q.shape[1], k.shape[1])
        state = self.split(extras)[1]
        weights, dscores = self.score_gradient(
            q, k, v, out, logsumexp, grad, grad_logsumexp, *extras
        )
        dv = self.drop(weights, state).mT @ grad.astype(kind)
        dq = dscores @ shared_heads(k.astype(kind), heads) * self.scale
        dk = dscores.mT @ q.astype(kind) * self.scale
        results = (dq, _grouped(dk, groups), _grouped(dv, groups))
        return tuple(x.astype(q.dtype) for x in results)  # type: ignore[return-value]

    def score_gradient(
        self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logsumexp: Tensor, grad: Tensor,
        grad_logsumexp: Tensor, *extras: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The probabilities and the gradient of the scores, (B, H, T, S) each."""
        mask, state = self.split(extras)
        kind, heads = wide(q.dtype), q.shape[1]
        k, v = (shared_heads(x.astype(kind), heads) for x in (k, v))
        grad = grad.astype(kind)
        shift = (logsumexp == -math.inf).where(0, logsumexp).unsqueeze(-1)
        weights = (self.scores(q.astype(kind), k, mask) - shift).exp()
        delta = (grad * out.astype(kind)).sum(axis=-1) - grad_logsumexp
        return weights, weights * (self.drop(grad @ v.mT, state) - delta.unsqueeze(-1))

    def mask_gradient(self, *inputs: Tensor) -> Tensor:
        """The gradient of a mask of floats."""
        mask = inputs[7]
        dscores = self.score_gradient(*inputs)[1]
        extra = dscores.ndim - mask.ndim
        axes = [a for a in range(4) if a < extra or mask.shape[a - extra] != dscores.shape[a]]
        total = dscores.sum(axis=tuple(axes)) if axes else dscores
        return total.reshape(mask.shape).astype(mask.dtype)

    def cost(
        self, q: Spec, k: Spec, v: Spec, out: Spec, logsumexp: Spec, grad: Spec,
        grad_logsumexp: Spec, *extras: Spec,
    ) -> Cost:  # fmt: skip
        moved = 2 * (q.nbytes + k.nbytes + v.nbytes) + 2 * out.nbytes + logsumexp.nbytes
        return Cost(self.work(q, k, v, 5), moved)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for name, op, (q, k, v), extras, tags in _variants(cls, make):
            out = (*q[:3], v[3])
            sums = [Operand(make.normal(*q[:3]).base.astype(np.float64)) for _ in range(2)]
            kind = np.float64 if make.dtype is dt.float64 else np.float32
            logsumexp, dsum = (Operand(x.base.astype(kind)) for x in sums)
            logsumexp.base[...] += 0.5 + math.log(max(k[2], 1))
            if "masked-row" in tags:
                logsumexp.base[:, :, 1] = -np.inf
            inputs = [make.normal(*shape) for shape in (q, k, v, out)]
            rest = (logsumexp, make.normal(*out), dsum, *extras)
            yield Case(op, (*inputs, *rest), name, frozenset(tags))
        op = cls(scale=0.5, causal=True)
        packed = [make.normal(2, 5, 12, view=_head(i)) for i in (0, 1, 2, 0, 1)]
        rows = [Operand(np.full((2, 2, 5), value, kind)) for value in (1.5, 0.25)]
        inputs = [*packed[:4], rows[0], packed[4], rows[1]]
        yield Case(op, tuple(inputs), "packed", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        q, row = make.normal(1, 2, 3, 4), Operand(np.zeros((1, 2, 3), np.float32))
        bad = (q, q, q, q, row, make.normal(1, 2, 3, 5), row)
        yield BadCase(cls(scale=1.0), bad, ShapeError, "grad must be")
        short = Operand(np.zeros((1, 2), np.float32))
        yield BadCase(cls(scale=1.0), (q, q, q, q, short, q, row), ShapeError, "logsumexp must be")


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    state: Tensor | None = None,
) -> Tensor:
    """softmax(q k^T * scale + mask) v. q (B, H, T, D), k (B, G, S, D), v (B, G, S, E).

    `mask` broadcasts to (B, H, T, S): bool, true where a query may look, or floats that are added.
    `causal`: query i sees keys up to i. `scale` is 1 / sqrt(D) by default. G may divide H.
    `dropout` needs a random `state` (`groundup.random.draw`). A row that sees nothing is 0.
    Raises ShapeError, DTypeError, ConfigError.
    """
    if dropout and state is None:
        raise ConfigError(
            "scaled_dot_product_attention: dropout needs a random state",
            hint="pass state=groundup.random.draw(q.device)",
        )
    op = ScaledDotProductAttention(
        scale=default_scale(q) if scale is None else float(scale),
        causal=causal, dropout=float(dropout), masked=mask is not None,
    )  # fmt: skip
    extras = [t for t in (mask, state if dropout else None) if t is not None]
    return op.many(q, k, v, *extras)[0]


def default_scale(q: Tensor) -> float:
    """1 / sqrt(D)."""
    return 1 / math.sqrt(max(q.shape[-1], 1)) if q.ndim else 1.0

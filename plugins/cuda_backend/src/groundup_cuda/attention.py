"""Attention, its gradient, over a cache, and rotary positions: from ops and layouts to kernels.

Heads of one number of queries, in any place of memory: packed queries, keys and values are read
where they are. Nothing of the size queries x keys is ever stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final

import attrs

from groundup import dtypes
from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup.ops.attention_cache import CachedAttention, RotaryEmbedding
from groundup.ops.random_ops import threshold
from groundup_cuda.expressions import STORED
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.source import OUT, SCRATCH, THREADS, Parameters, Stage, read, stage, walk

_TILE: Final = 64  # queries and keys of a tile
_WIDEST: Final = 256  # columns of v, and of q where gradients are taken
_FEW: Final = 16  # queries for one head of a cache, up to which its keys are shared out
_HELD: Final = 160  # columns of keys and values that fit in registers
PLAIN: Final = ("attention_common", "attention_tiles")
TENSOR: Final = ("attention_common", "tensor_cores", "attention_fragments")


@attrs.frozen
class Forward:
    """A tensor-core kernel: threads of a block, groups of 16 queries of each warp, keys of a tile
    and of the slice that is used at once, blocks that a multiprocessor should hold at a time, and
    whether queries stay in registers.
    """

    threads: int
    rows: int
    keys: int
    slice: int
    resident: int
    held: bool = True

    @property
    def queries(self) -> int:
        """Of a block."""
        return self.rows * self.threads // 2


@attrs.frozen
class Backward:
    """Threads of a block, queries (or keys) of a tile, and of the part that is used at once."""

    threads: int
    rows: int
    slice: int
    resident: int

    @property
    def own(self) -> int:
        """Keys (or queries) of a block."""
        return self.threads // 2


# By the larger of the two head sizes, up to the key.
FORWARD: Final = {
    64: Forward(128, 2, 64, 32, 2), 128: Forward(256, 1, 64, 64, 1),
    256: Forward(128, 1, 32, 32, 2, held=False),
}  # fmt: skip
KEYS: Final = {64: Backward(256, 64, 32, 1), 128: Backward(256, 32, 16, 1)}
QUERIES: Final = {64: Backward(256, 64, 32, 1), 128: Backward(256, 64, 16, 1)}


@attrs.frozen(eq=False)
class Call:
    """An attention op on layouts: what all of its kernels are told."""

    op: Any
    q: Layout
    k: Layout
    v: Layout
    extras: Layouts
    first_extra: int  # its position among the op's inputs

    @property
    def rows(self) -> int:
        """Queries of all heads."""
        return prod(self.q.shape[:3])

    @property
    def columns(self) -> tuple[int, int]:
        """Head sizes of q and v, filled up to whole fragments."""
        return -(-self.q.shape[3] // 16) * 16, -(-self.v.shape[3] // 16) * 16

    def blocks(self, queries: int) -> int:
        """Of so many queries each."""
        return self.q.shape[0] * self.q.shape[1] * -(-self.q.shape[2] // queries)

    def key_blocks(self, keys: int) -> int:
        """Of so many keys each."""
        return self.k.shape[0] * self.k.shape[1] * -(-self.k.shape[2] // keys)

    def stage(
        self, family: str, operands: Sequence[int], blocks: int, headers: Sequence[str],
        named: Mapping[str, Layout], *, threads: int = THREADS, shared: int = 0, **texts: object,
    ) -> Stage:  # fmt: skip
        """One kernel. `operands`: all but mask and state; `named`: those whose strides it needs."""
        parameters = Parameters(len(operands) + len(self.extras))
        parts = self._parts(parameters, len(operands))
        for name, layout in named.items():
            parts[f"{name}_strides"] = _strides(parameters, layout.strides)
        parts["all_rows"] = parameters.add(self.rows)
        parts["headers"] = "\n".join(read(name) for name in headers)
        parts |= {name: str(text) for name, text in (*texts.items(), ("block_threads", threads))}
        every = [*operands, *range(self.first_extra, self.first_extra + len(self.extras))]
        made = stage(family, self.op.name, parameters, every, blocks * THREADS, (self.q,), **parts)
        return attrs.evolve(made, threads=threads, shared=shared)

    def _parts(self, parameters: Parameters, before: int) -> dict[str, str]:
        """The texts that every kernel has. `before` operands stand before mask and state."""
        op, add = self.op, parameters.add
        (_, heads, queries, size), (_, groups, keys, width) = self.q.shape, self.v.shape
        cached = isinstance(op, CachedAttention)
        dropout = 0.0 if cached else op.dropout
        mask, state = (None, None) if cached else op.split(self.extras)
        numbers = (heads, heads // groups, queries, keys, size, width)
        values = [f"(int){add(n)}" for n in numbers]
        values += [parameters.number(op.scale, "float"), f"(int){add(0)}"]
        values += [f"(u32){add(threshold(dropout))}", parameters.number(1 / (1 - dropout), "float")]
        if cached:  # keys behind the length are not there; the last query sees all others
            length = f"*(const int *)p.v[{before}]"
            values[3], values[7] = f"limited({length}, {values[3]})", f"{length} - {values[2]}"
        found = {
            "attention": ", ".join(values), "type": STORED[self.q.dtype],
            "causal": str(cached or op.causal).lower(), "drops": str(dropout > 0).lower(),
            "mask": "None", "mask_operand": "", "state_operand": "nullptr, 0",
            "splits": add(_splits(self)),
        }  # fmt: skip
        if mask is not None:
            steps = _strides(parameters, _spread(mask, (*self.q.shape[:3], keys)))
            found["mask"] = STORED[mask.dtype]
            found["mask_operand"] = f"(const {found['mask']} *)p.v[{before}], {{{steps}}}"
        if state is not None:
            place = before + (mask is not None)
            found["state_operand"] = f"(const int *)p.v[{place}], {add(state.strides[0])}"
        return found


def lower_attention(
    op: Any, inputs: Layouts, outputs: Layouts, capability: tuple[int, int]
) -> Lowered | Declined:
    """Forward: one kernel for out and logsumexp."""
    q, k, v, *extras = inputs
    call = Call(op, q, k, v, extras, 3)
    refusal = _refusal(call)
    if refusal is not None:
        return refusal
    if not call.rows:
        return Lowered([])
    return Lowered([forward(call, _tiling(FORWARD, call, capability))])


def lower_cached_attention(
    op: CachedAttention, inputs: Layouts, outputs: Layouts, capability: tuple[int, int]
) -> Lowered | Declined:
    """The same kernels; how many keys there are is read on the GPU. Row sums are not kept."""
    q, k, v, length = inputs
    call = Call(op, q, k, v, (length,), 3)
    refusal = _refusal(call)
    if refusal is not None:
        return refusal
    if q.shape[2] * (q.shape[1] // k.shape[1]) <= _FEW:
        return _decode(call)
    step = forward(call, _tiling(FORWARD, call, capability), sums=SCRATCH)
    return Lowered([step], scratch=4 * call.rows)


def _decode(call: Call) -> Lowered:
    """Keys shared out over blocks, and a second kernel that joins what those found."""
    splits, width = _splits(call), call.v.shape[3]
    step = call.stage(
        "attention_decode", (SCRATCH, 0, 1, 2), call.k.shape[0] * call.k.shape[1] * splits,
        (PLAIN[0], "attention_rows_of"), {"q": call.q, "k": call.k, "v": call.v}, threads=128,
        parts=_columns(call.v),
    )  # fmt: skip
    parameters = Parameters(2)
    join = stage(
        "attention_join", call.op.name, parameters, (OUT, SCRATCH), call.rows * THREADS, (call.q,),
        type=STORED[call.q.dtype], all_rows=parameters.add(call.rows),
        splits=parameters.add(splits), columns=parameters.add(width),
    )  # fmt: skip
    return Lowered([step, join], scratch=4 * call.rows * splits * (width + 2))


def lower_rotary(
    op: RotaryEmbedding, inputs: Layouts, outputs: Layouts, capability: tuple[int, int]
) -> Lowered:
    """One thread for each pair of numbers."""
    x, positions = inputs
    half = x.shape[-1] // 2
    parameters = Parameters(3)
    index = walk(
        parameters, "i", (*x.shape[:-1], half), place=outputs[0].strides, at0=x.strides,
        at1=(*(0,) * (x.rank - 2), positions.strides[0], 0),
    )  # fmt: skip
    made = stage(
        "rotary", op.name, parameters, (OUT, 0, 1), x.size // 2, inputs,
        size=parameters.add(x.size // 2), index=index, half=parameters.add(half),
        rate=parameters.number(-math.log(op.theta) / half, "float"),
        step=parameters.add(x.strides[-1]), sign="-" if op.inverse else "",
        in1=STORED[positions.dtype], out=STORED[x.dtype],
    )  # fmt: skip
    return Lowered([made])


def _splits(call: Call) -> int:
    """Blocks that share out the keys of a head."""
    return max(1, -(-call.k.shape[2] // _TILE))


def forward(call: Call, tiling: Forward | None, sums: int = OUT - 1) -> Stage:
    """On tensor cores as `tiling` says, or without. `sums` is where each row's logsumexp goes."""
    operands = (OUT, sums, 0, 1, 2)
    named = {"q": call.q, "k": call.k, "v": call.v}
    if tiling is None:
        blocks = call.blocks(_TILE)
        return call.stage("attention", operands, blocks, PLAIN, named, parts=_columns(call.v))
    size, width = call.columns
    shared = 2 * tiling.keys * _row_bytes(call)
    shared += 0 if tiling.held else 2 * tiling.queries * (size + 8)
    texts = attrs.asdict(tiling) | {"held": str(tiling.held).lower()}
    return call.stage(
        "attention_tensor", operands, call.blocks(tiling.queries), TENSOR, named,
        shared=shared, size=size, width=width, **texts,
    )  # fmt: skip


def lower_attention_backward(
    op: Any, inputs: Layouts, outputs: Layouts, capability: tuple[int, int]
) -> Lowered | Declined:
    """Row sums first, then keys and values, then queries: each result has one block that adds it
    up, so there are no atomics and the order never changes.
    """
    q, k, v, _, logsumexp, _, dsum, *extras = inputs
    call = Call(op, q, k, v, extras, 7)
    refusal = _refusal(call)
    if refusal is None and q.shape[3] > _WIDEST:
        refusal = Declined(f"gradients of attention of size {q.shape[3]}: at most {_WIDEST}")
    if refusal is None and not (logsumexp.dtype in STORED and dsum.dtype in STORED):
        refusal = Declined(f"attention with row sums of {logsumexp.dtype} and {dsum.dtype}")
    if refusal is not None:
        return refusal
    steps = backward(
        call, inputs, _tiling(KEYS, call, capability), _tiling(QUERIES, call, capability)
    )
    return Lowered(steps, scratch=2 * 4 * max(call.rows, 1))


def backward(
    call: Call, inputs: Layouts, by_keys: Backward | None, by_queries: Backward | None
) -> list[Stage]:
    """Three kernels, those without work left out. Both tilings or none."""
    q, k, v, out, logsumexp, grad, dsum, *_ = inputs
    steps = []
    if call.rows:
        steps.append(call.stage(
            "attention_rows", (SCRATCH, 3, 5, 4, 6), -(-call.rows * 32 // THREADS), PLAIN[:1],
            {"out": out, "grad": grad, "sum": logsumexp, "dsum": dsum},
            sum_type=STORED[logsumexp.dtype], dsum_type=STORED[dsum.dtype],
            unit="1.0f" if by_keys is None else "1.4426950408889634f",
        ))  # fmt: skip
    named = {"q": q, "k": k, "v": v, "grad": grad}
    first, second = (OUT - 1, OUT - 2, 0, 1, 2, 5, SCRATCH), (OUT, 0, 1, 2, 5, SCRATCH)
    if by_keys is None or by_queries is None:
        headers, parts = (*PLAIN, "attention_backward"), {"size_parts": _columns(q)}
        blocks = call.key_blocks(_TILE), call.blocks(_TILE)
        keys = call.stage(
            "attention_keys", first, blocks[0], headers, named, width_parts=_columns(v), **parts,
        )  # fmt: skip
        queries = call.stage("attention_queries", second, blocks[1], headers, named, **parts)
    else:
        size, width = call.columns
        keys = call.stage(
            "attention_tensor_keys", first, call.key_blocks(by_keys.own), TENSOR, named,
            shared=_key_memory(call, by_keys), size=size, width=width, held=_HELD,
            **attrs.asdict(by_keys),
        )  # fmt: skip
        queries = call.stage(
            "attention_tensor_queries", second, call.blocks(by_queries.own), TENSOR, named,
            shared=2 * by_queries.rows * _row_bytes(call), size=size, width=width,
            **attrs.asdict(by_queries),
        )  # fmt: skip
    return [step for step in (*steps, keys, queries) if step.blocks]


def _tiling(table: Mapping[int, Any], call: Call, capability: tuple[int, int]) -> Any:
    """The entry for these head sizes; None where tensor cores are of no use: for float32, which
    they would round, for heads too narrow or odd, and before Ampere.
    """
    sizes = call.q.shape[3], call.v.shape[3]
    narrow = call.q.dtype in (dtypes.float16, dtypes.bfloat16)
    if not narrow or capability < (8, 0) or min(sizes) < 16 or sizes[0] % 2 or sizes[1] % 2:
        return None
    if call.op.scale <= 0:  # the largest score would not have the largest product
        return None
    return next((table[most] for most in sorted(table) if max(call.columns) <= most), None)


def _row_bytes(call: Call) -> int:
    """Of a row of two tiles in shared memory, each with 16 bytes after it."""
    return 2 * (sum(call.columns) + 16)


def _key_memory(call: Call, tiling: Backward) -> int:
    """Two tiles of queries, gradients and two numbers for each; the block's values if they are too
    wide for registers.
    """
    size, width = call.columns
    values = 0 if size + width <= _HELD else 2 * tiling.own * (width + 8)
    return 2 * tiling.rows * (_row_bytes(call) + 8) + values


def _columns(x: Layout) -> int:
    """How many times 64 columns a block adds up."""
    return -(-x.shape[3] // 64)


def _strides(parameters: Parameters, steps: Sequence[int]) -> str:
    """The four distances of an operand, as text."""
    return ", ".join(parameters.add(step) for step in (*steps, 0, 0, 0, 0)[:4])


def _spread(mask: Layout, shape: Sequence[int]) -> tuple[int, ...]:
    """The distances of a mask that is broadcast to `shape`."""
    own = zip(mask.shape, mask.strides, strict=True)
    return (0,) * (len(shape) - mask.rank) + tuple(step if n > 1 else 0 for n, step in own)


def _refusal(call: Call) -> Declined | None:
    """Sizes that no kernel is made for; the composition takes them."""
    size, width = call.q.shape[3], call.v.shape[3]
    if not (size and 0 < width <= _WIDEST):
        return Declined(f"attention of size {size} and {width}: v must have 1 to {_WIDEST} columns")
    if max(call.q.shape[2], call.k.shape[2]) >= 2**30:
        return Declined("attention over 2^30 keys or more")
    return None

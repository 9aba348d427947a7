"""Attention from the formula to tensor cores, a rung at a time: what each idea is worth.

Every rung computes the same, out and logsumexp without mask and dropout. Its idea stands at the
head of `kernels/ladder/attention_*.cu`. The highest rungs are the kernels in use.
"""

from __future__ import annotations

from collections.abc import Iterator

from groundup import dtypes
from groundup_cuda.attention import FORWARD, PLAIN, TENSOR, Call, forward
from groundup_cuda.source import OUT, THREADS, Stage

_OPERANDS = (OUT, OUT - 1, 0, 1, 2)


def rungs(call: Call) -> Iterator[tuple[str, Stage]]:
    """Name and launch of each rung, for q, k and v of at most 64 columns, a multiple of 16.

    Those on tensor cores are only there for 16-bit floats.
    """
    numbers = call.rows * call.v.shape[3]
    yield "1 naive", _rung(call, "1_naive", -(-numbers // THREADS), THREADS, PLAIN[:1])
    for name in ("2_online", "3_shared"):
        yield name.replace("_", " "), _rung(call, name, call.blocks(128), 128, PLAIN[:1])
    yield "4 registers", forward(call, None)
    if call.q.dtype in (dtypes.float16, dtypes.bfloat16):
        yield "5 tensor", _rung(call, "5_tensor", call.blocks(64), 128, TENSOR)
        yield "6 pipelined", forward(call, FORWARD[64])


def _rung(call: Call, name: str, blocks: int, threads: int, headers: tuple[str, ...]) -> Stage:
    size, width = call.columns
    named = {"q": call.q, "k": call.k, "v": call.v}
    return call.stage(
        f"ladder/attention_{name}", _OPERANDS, blocks, headers, named, threads=threads,
        size=size, width=width,
    )  # fmt: skip

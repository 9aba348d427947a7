"""Attention from the formula to tensor cores. The highest rungs are the kernels in use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from groundup import dtypes
from groundup_cuda.attention import FORWARD, PLAIN, TENSOR, Call, forward
from groundup_cuda.ladders.rung import Rung, rung
from groundup_cuda.plans import Layouts
from groundup_cuda.source import OUT, THREADS

_OPERANDS = (OUT, OUT - 1, 0, 1, 2)


def rungs(op: Any, inputs: Layouts, outputs: Layouts) -> Iterator[Rung]:
    """Of scaled_dot_product_attention, out and logsumexp without mask and dropout, for q, k and v
    of at most 64 columns, a multiple of 16. Those on tensor cores are only there for 16-bit floats.
    """
    q, k, v = inputs
    call = Call(op, q, k, v, (), 3)
    numbers = call.rows * v.shape[3]
    yield _own("1 naive", call, -(-numbers // THREADS), THREADS, PLAIN[:1])
    for name in ("2 online", "3 shared"):
        yield _own(name, call, call.blocks(128), 128, PLAIN[:1])
    yield rung("4 registers", "attention", forward(call, None))
    if q.dtype in (dtypes.float16, dtypes.bfloat16):
        yield _own("5 tensor", call, call.blocks(64), 128, TENSOR)
        yield rung("6 pipelined", "attention_tensor", forward(call, FORWARD[64]))


def _own(name: str, call: Call, blocks: int, threads: int, headers: tuple[str, ...]) -> Rung:
    size, width = call.columns
    named = {"q": call.q, "k": call.k, "v": call.v}
    family = f"ladder/attention_{name.replace(' ', '_')}"
    step = call.stage(
        family, _OPERANDS, blocks, headers, named, threads=threads, size=size, width=width
    )
    return rung(name, family, step)

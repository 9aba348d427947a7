"""Layer norm of x + residual, from three passes by one thread to one pass that adds as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from groundup_cuda.expressions import STORED
from groundup_cuda.ladders.rung import Rung, launch, rung
from groundup_cuda.maps import map_stage
from groundup_cuda.plans import Layouts
from groundup_cuda.rows import lower_norm, sharing
from groundup_cuda.source import OUT, THREADS, Parameters

_ROWS = {"1 naive": 256, "2 block": 1, "3 warp": 8}  # of a block


def rungs(op: Any, inputs: Layouts, outputs: Layouts) -> Iterator[Rung]:
    """Of add_layer_norm with a bias, for row-major floats that are not empty and begin at
    multiples of 16 bytes, rows of up to 8192. All but the last add first, by a launch of its own.
    """
    x, residual, *_ = inputs
    total, columns = outputs[1], x.shape[-1]
    rows = x.size // columns
    shared = sharing([total, outputs[0]])
    add = map_stage(
        "add", Parameters(3), [OUT - 1, 0, 1], (total, x, residual), "ab", "add(a, b)"
    )  # fmt: skip

    def made(name: str, each: int) -> Rung:
        family = f"ladder/layer_norm_{name.replace(' ', '_')}"
        step = launch(
            family, op, (OUT, OUT - 1, 2, 3), -(-rows // each), (*inputs, *outputs), rows=rows,
            columns=columns, eps=float(op.eps), type=STORED[x.dtype], **shared.parts(),
        )  # fmt: skip
        return rung(name, family, add, step)

    for name, each in _ROWS.items():
        yield made(name, each)
    yield made("4 registers", THREADS // shared.group)
    yield Rung("5 fused", "norm", lower_norm(op, inputs, outputs))

"""Ladders: an op from its formula to a fast kernel, an idea at a time, and what each is worth.

All rungs of a ladder compute the same. `LADDERS` has, for the name of each, a function from op and
layouts to its rungs, as those that lower ops; `kernels/ladder/` has the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from groundup_cuda.ladders import adamw, attention, layer_norm, matmul
from groundup_cuda.ladders.rung import Rung as Rung
from groundup_cuda.plans import Layouts

LADDERS: Final[Mapping[str, Callable[[Any, Layouts, Layouts], Iterator[Rung]]]] = {
    "matmul": matmul.rungs, "layer_norm": layer_norm.rungs, "adamw": adamw.rungs,
    "attention": attention.rungs,
}  # fmt: skip

"""What lowering makes of an op: launches in order, and what they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs

from groundup.layout import Layout
from groundup_cuda.products import Product
from groundup_cuda.source import Stage

Layouts: TypeAlias = Sequence[Layout]
Step: TypeAlias = Stage | Product


@attrs.frozen(eq=False)
class Lowered:
    """Launches in order, the inputs that they need row-major, and bytes of scratch memory.

    `in_place`: outputs that may be given the memory of an input, as the op's `aliases` say.
    """

    steps: Sequence[Step]
    contiguous: tuple[int, ...] = ()
    scratch: int = 0
    in_place: Mapping[int, int] = {}

"""What an op is lowered to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import attrs

from groundup_cuda.blas import Product
from groundup_cuda.source import Stage

Step: TypeAlias = Stage | Product


@attrs.frozen(eq=False)
class Lowered:
    """Launches in order, the inputs that they need row-major, and bytes of scratch memory."""

    steps: Sequence[Step]
    contiguous: tuple[int, ...] = ()
    scratch: int = 0

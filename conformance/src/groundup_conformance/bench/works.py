"""What is benchmarked: an op on operands of given layouts, derived from the registry.

Every op runs in three regimes: `launch` (1 K elements, where the cost of starting it counts),
`cache` (1 M) and `memory` (64 M, or fewer in a quick run). Beside them stand the shapes and strides
that real models use, see `traced`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Final

import attrs

from groundup.dtypes import DType
from groundup.errors import GroundupError
from groundup.layout import Layout, Spec
from groundup.ops.op import Cost, Op, has
from groundup.shapes import Shape
from groundup_conformance.bench.shapes import shapes_for
from groundup_conformance.samples import base, outputs, seen

REGIMES: Final = {"launch": 1 << 10, "cache": 1 << 20, "memory": 1 << 26}  # elements


@attrs.frozen(eq=False)
class Work:
    """`op` on operands of `layouts`; `regime` says which kind of size it is."""

    op: Op
    layouts: tuple[Layout, ...]
    dtype: DType
    regime: str

    @property
    def specs(self) -> list[Spec]:
        """Shapes and dtypes of the operands."""
        return [layout.spec for layout in self.layouts]

    @property
    def results(self) -> tuple[Spec, ...]:
        """Those of the results."""
        return outputs(self.op, self.specs)

    @property
    def cost(self) -> Cost:
        """The least work that the op can do, by its own account.

        An op sees shapes only. What an expanded operand repeats lies in memory once, and counts
        once.
        """
        whole = self.op.cost(*seen(self.op, self.specs))
        return Cost(whole.flops, whole.bytes - sum(map(_repeated, self.layouts)))

    @property
    def written(self) -> int:
        """Bytes of the results."""
        return sum(spec.nbytes for spec in self.results)

    @property
    def footprint(self) -> int:
        """Bytes of operands and results."""
        return sum(x.spec.nbytes - _repeated(x) for x in self.layouts) + self.written

    @property
    def name(self) -> str:
        """op/dtype/shapes, the group of pytest-benchmark. Parameters follow where there are any."""
        operands = [self._operand(layout) for layout in self.layouts[:4]]
        more = len(self.layouts) - 4
        operands += [f"+{more}"] if more > 0 else []
        largest = max((spec.size for spec in self.specs), default=0)
        made = [_sizes(spec.shape) for spec in self.results if spec.size > largest]
        operands += [f"to{'' if not operands else '-'}{made[0]}"] if made else []
        shapes = ",".join(operands)
        settings = self._settings()
        return f"{self.op.name}/{self.dtype.name}/{shapes}{f';{settings}' if settings else ''}"

    def _operand(self, layout: Layout) -> str:
        """128x64; with its strides, 128x64@1x128, where those are not row-major."""
        sizes = _sizes(layout.shape)
        return sizes if layout.is_row_major else f"{sizes}@{_sizes(layout.strides)}"

    def _settings(self) -> str:
        """The static parameters that are not obvious from the shapes, in short."""
        given = [f for f in self.op.nondefault() if f not in ("shape", "count", "weight_decay")]
        values = [(field, getattr(self.op, field)) for field in given]
        return ";".join(f"{field}={_short(value)}" for field, value in values)


def regimes(op: type[Op], dtype: DType, sizes: Sequence[tuple[str, int]]) -> Iterator[Work]:
    """The op at each of the sizes (regime, elements). None for views, which are no work."""
    if has(op, "view") or base(op, dtype) is None:
        return
    seen_layouts = set()
    for regime, elements in sizes:
        try:
            made, specs = shapes_for(op, dtype, elements)
            outputs(made, specs)
        except GroundupError:
            continue  # the op takes no operands of that size
        key = (made, *specs)
        if key not in seen_layouts:  # ops of one size are the same in every regime
            seen_layouts.add(key)
            yield Work(made, tuple(Layout.contiguous(s) for s in specs), dtype, regime)


def main_dtypes(op: type[Op], wanted: Sequence[DType]) -> list[DType]:
    """Which dtypes to run an op in: those wanted, else its own first one (int32, bool)."""
    return [dtype for dtype in wanted if dtype in op.dtypes] or list(op.dtypes[:1])


def _repeated(layout: Layout) -> int:
    """Bytes that a layout has beyond those in memory, because an axis is expanded."""
    pairs = zip(layout.shape, layout.strides, strict=True)
    elements = prod(n for n, stride in pairs if stride or n == 1)
    return (layout.size - elements) * layout.dtype.itemsize


def _sizes(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "1"


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "x".join(_short(part) for part in value)
    if isinstance(value, DType):
        return value.name
    return f"{value:.4g}" if isinstance(value, float) else str(value)

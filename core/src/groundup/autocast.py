"""autocast: run the costly ops in bfloat16 or float16, the delicate ones in float32.

    with autocast("bfloat16"):
        loss = model(x, y)
    loss.backward()

Parameters stay float32: they are cast where they are used, and their gradients are float32 again.
The choice is by the family of an op, so that ops of plugins take part too.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from groundup import dispatch
from groundup.dtypes import DType, DTypeLike, as_dtype, bfloat16, float16, float32, float64, promote
from groundup.errors import ConfigError
from groundup.graph import Intercept, Interceptor, mode
from groundup.ops.op import Op
from groundup.ops.rounding import Cast

if TYPE_CHECKING:
    from groundup.backends.api import Device
    from groundup.tensor import Tensor

NARROW_FAMILIES: Final = frozenset({"contraction", "attention"})
WIDE_FAMILIES: Final = frozenset({"loss", "normalization"})
WIDE_OPS: Final = frozenset({"cumsum", "logsumexp", "mean", "prod", "sum", "var"})
UNTOUCHED_FAMILIES: Final = frozenset({"creation", "optimizer", "random"})


class autocast(Intercept):  # noqa: N801 - PyTorch's name
    """While active, contractions and attention compute in `dtype`, losses, norms, sums in float32.

    Other ops that get different float dtypes take the widest; float64 is left alone. Enclose the
    forward pass; gradients follow by themselves. The innermost one decides, and an instance serves
    one `with` at a time. Raises ConfigError unless `dtype` is bfloat16, float16 or float32 (for no
    change).
    """

    def __init__(self, dtype: DTypeLike = bfloat16) -> None:
        self.dtype = as_dtype(dtype)
        if self.dtype not in (bfloat16, float16, float32):
            raise ConfigError(
                f"autocast: dtype must be bfloat16, float16 or float32, got {self.dtype}"
            )
        super().__init__(self._cast)
        self._before: Interceptor | None = None

    def __enter__(self) -> None:
        super().__enter__()
        self._before = self._outer
        around = getattr(self._outer, "__self__", None)
        if isinstance(around, autocast):  # the inner one decides alone, or both would cast
            self._outer = around._outer

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        mode.interceptor = self._before

    def _cast(self, op: Op, inputs: tuple[Tensor, ...], device: Device | None) -> Any:
        wanted = self._wanted(op, inputs)
        if wanted is not None:
            inputs = tuple(_as(t, wanted) for t in inputs)
        return dispatch.apply(op, inputs, device)

    def _wanted(self, op: Op, inputs: tuple[Tensor, ...]) -> DType | None:
        """What the floating inputs are cast to, None to leave them.

        State (`aliases`) keeps its dtype; gradients of ops come in theirs; float64 was asked for.
        """
        floats = {t.dtype for t in inputs if t.dtype.is_floating}
        if op.aliases or "_backward" in op.name or op.name == "cast" or float64 in floats:
            return None
        if op.family in NARROW_FAMILIES:
            return self.dtype
        if op.family in WIDE_FAMILIES or op.name in WIDE_OPS:
            return float32
        if op.broadcasts or op.family in UNTOUCHED_FAMILIES:
            return None  # elementwise ops are promoted anyway
        return reduce(promote, floats) if len(floats) > 1 else None


def _as(t: Tensor, dtype: DType) -> Tensor:
    if t.dtype is dtype or not t.dtype.is_floating:
        return t
    return dispatch.apply(Cast(dtype=dtype), (t,))  # type: ignore[no-any-return]


__all__ = ["autocast"]

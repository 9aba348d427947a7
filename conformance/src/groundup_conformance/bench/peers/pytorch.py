"""PyTorch: on CUDA beside a GPU, on the CPU beside `cpu`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, TypeAlias

import numpy as np

from groundup.backends.api import Device
from groundup.ops.op import Op
from groundup_conformance.budgets.units import Array

Make: TypeAlias = Callable[[Op], Callable[..., Any]]

# Ops that have PyTorch's name and no parameters.
_SAME: Final = (
    "abs", "neg", "sign", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "sin",
    "cos", "tan", "tanh", "erf", "sigmoid", "floor", "ceil", "round", "isnan", "isfinite",
    "logical_not", "logical_and", "logical_or", "logical_xor", "add", "sub", "mul", "div", "pow",
    "maximum", "minimum", "remainder", "floor_divide", "less", "less_equal", "greater",
    "greater_equal", "not_equal", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not",
    "bitwise_left_shift", "bitwise_right_shift", "relu", "matmul", "where",
)  # fmt: skip


class Torch:
    """PyTorch, eager."""

    name = "torch"

    def __init__(self, device: Device) -> None:
        self._torch: Any = import_module("torch")
        gpu = not device.info.name.startswith("cpu") and self._torch.cuda.is_available()
        self.array_place = "cuda" if gpu else "cpu"
        threads = "" if gpu else f", {self._torch.get_num_threads()} threads"
        self.version = f"torch {self._torch.__version__} on {self.array_place}{threads}"
        self._table = _table(self._torch, self._torch.nn.functional)

    def function(self, op: Op) -> Callable[..., Any] | None:
        """PyTorch's own function for the op."""
        if op.name in _SAME and not op.fields:
            found: Callable[..., Any] = getattr(self._torch, op.name)
            return found
        make = self._table.get(op.name)
        return make(op) if make else None

    def array(self, values: Array) -> Any:
        """A tensor of the same dtype and strides."""
        if any(step < 0 for step in values.strides):
            values = np.ascontiguousarray(values)
        if values.dtype.name == "bfloat16":
            made = self._torch.from_numpy(values.view(np.int16)).view(self._torch.bfloat16)
        else:
            made = self._torch.from_numpy(values)
        return made.to(self.array_place)

    def host(self, result: Any) -> Array:
        """Values in float64 where they are floats: NumPy knows no bfloat16."""
        held = result.detach().cpu()
        found: Array = (held.double() if held.is_floating_point() else held).numpy()
        return found

    def wait(self) -> object:
        """Until CUDA is done."""
        return self._torch.cuda.synchronize() if self.array_place == "cuda" else None


def _table(t: Any, F: Any) -> Mapping[str, Make]:
    """Functions whose parameters have other names, or an order of their own."""

    def reduced(function: Callable[..., Any]) -> Make:
        def make(op: Any) -> Callable[..., Any]:
            axes, keep = op.axes, op.keepdims
            return (lambda x: function(x)) if axes is None else lambda x: function(x, axes, keep)

        return make

    def indexed(function: Callable[..., Any]) -> Make:
        return lambda op: lambda x: function(x, op.axis, op.keepdims)  # type: ignore[attr-defined]

    def normed(op: Any) -> Callable[..., Any]:
        return lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b, op.eps)

    table: dict[str, Any] = {
        "equal": lambda op: t.eq,
        "less": lambda op: t.lt,
        "silu": lambda op: F.silu,
        "gelu": lambda op: lambda x: F.gelu(x, approximate=op.approximate),
        "gelu_backward": lambda op: lambda x, g: t.ops.aten.gelu_backward(
            g, x, approximate=op.approximate
        ),
        "silu_backward": lambda op: lambda x, g: t.ops.aten.silu_backward(g, x),
        "clamp": lambda op: lambda x: t.clamp(x, op.min, op.max),
        "contiguous": lambda op: lambda x: x.clone(memory_format=t.contiguous_format),
        "linear": lambda op: F.linear,
        "sum": reduced(t.sum),
        "mean": reduced(t.mean),
        "max": reduced(t.amax),
        "min": reduced(t.amin),
        "logsumexp": reduced(t.logsumexp),
        "prod": lambda op: lambda x: t.prod(x, op.axes[0]) if op.axes else t.prod(x),
        "argmax": indexed(t.argmax),
        "argmin": indexed(t.argmin),
        "any": lambda op: lambda x: t.any(x, op.axes[0]),
        "all": lambda op: lambda x: t.all(x, op.axes[0]),
        "var": lambda op: lambda x: t.var(x, op.axes, correction=op.correction),
        "cumsum": lambda op: lambda x: t.cumsum(x, op.axis),
        "softmax": lambda op: lambda x: t.softmax(x, op.axis),
        "log_softmax": lambda op: lambda x: t.log_softmax(x, op.axis),
        "layer_norm": normed,
        "rms_norm": lambda op: lambda x, w: F.rms_norm(x, x.shape[-1:], w, op.eps),
        "group_norm": lambda op: lambda x, w, b: F.group_norm(x, op.groups, w, b, op.eps),
        "take": lambda op: (lambda x, i: F.embedding(i, x)) if op.axis == 0 else None,
        "gather": lambda op: lambda x, i: t.gather(x, op.axis, i.long()),
        "scatter_add": lambda op: lambda x, i, s: t.scatter_add(x, op.axis, i.long(), s),
        "tril": lambda op: lambda x: t.tril(x, op.diagonal),
        "triu": lambda op: lambda x: t.triu(x, op.diagonal),
        "concat": lambda op: lambda *x: t.cat(x, op.axis),
        "cross_entropy": lambda op: lambda x, y: F.cross_entropy(
            x.flatten(0, -2), y.flatten().long(), ignore_index=op.ignore_index,
            reduction=op.reduction,
        ),
        "mse_loss": lambda op: lambda x, y: F.mse_loss(x, y, reduction=op.reduction),
        "scaled_dot_product_attention": lambda op: (
            None
            if op.masked or op.dropout
            else lambda q, k, v: F.scaled_dot_product_attention(
                q, k, v, is_causal=op.causal, scale=op.scale
            )
        ),
        "conv2d": lambda op: lambda x, w, *b: F.conv2d(
            x, w, *(b or (None,)), op.stride, op.padding, op.dilation, op.groups
        ),
        "conv1d": lambda op: lambda x, w, *b: F.conv1d(
            x, w, *(b or (None,)), op.stride, op.padding, op.dilation, op.groups
        ),
        "max_pool2d": lambda op: lambda x: F.max_pool2d(x, op.kernel, op.stride, op.padding),
        "sort": lambda op: lambda x: t.sort(
            x, dim=op.axis, descending=op.descending, stable=True
        )[0],
        "topk": lambda op: lambda x: t.topk(x, op.k, op.axis)[0],
        "global_norm": lambda op: lambda *x: t.nn.utils.get_total_norm(x),
        "einsum": lambda op: lambda *x: t.einsum(op.equation, *x),
        "full": lambda op: None,
    }  # fmt: skip
    return table

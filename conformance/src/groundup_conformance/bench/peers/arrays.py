"""NumPy, CuPy and JAX: three libraries with one set of names, that of the Array API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

import numpy as np

from groundup.backends.api import Device
from groundup.errors import ConfigError
from groundup.ops.op import Op
from groundup_conformance.budgets.units import Array

_SAME: Final = {  # op: function
    **{
        name: name
        for name in (
            "abs", "sign", "exp", "expm1", "log", "log1p", "sqrt", "reciprocal", "sin", "cos",
            "tan", "tanh", "floor", "ceil", "isnan", "isfinite", "logical_not", "logical_and",
            "logical_or", "logical_xor", "add", "maximum", "minimum", "remainder", "floor_divide",
            "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "bitwise_and",
            "bitwise_or", "bitwise_xor", "where", "matmul",
        )
    },
    "neg": "negative", "sub": "subtract", "mul": "multiply", "div": "divide", "pow": "power",
    "round": "rint", "bitwise_not": "invert", "bitwise_left_shift": "left_shift",
    "bitwise_right_shift": "right_shift",
}  # fmt: skip
_REDUCTIONS: Final = ("sum", "mean", "prod", "max", "min", "any", "all")


class ArrayPeer:
    """One of the three."""

    def __init__(self, name: str, device: Device) -> None:
        self.name = name
        module = "jax.numpy" if name == "jax" else name
        self._np: Any = import_module(module)
        self._library: Any = import_module(name)
        where = "cpu"
        if name == "jax":
            where = self._library.default_backend()
        elif name == "cupy":
            if not self._np.cuda.is_available():
                raise ConfigError("cupy: no GPU here")
            where = "cuda"
        if name == "numpy" and not device.info.name.startswith("cpu"):
            raise ConfigError(f"numpy runs on the CPU, it says nothing about {device.info.name}")
        self.version = f"{name} {self._library.__version__} on {where}"
        self._table = _table(self._np)
        self._last: Any = None

    def function(self, op: Op) -> Callable[..., Any] | None:
        """The library's function; JAX compiles it."""
        found = self._find(op)
        if found is None or self.name != "jax":
            return found
        jitted = self._library.jit(found)

        def call(*arrays: Any) -> Any:
            self._last = jitted(*arrays)
            return self._last

        return call

    def _find(self, op: Op) -> Callable[..., Any] | None:
        if op.name in _SAME and not op.fields:
            found: Callable[..., Any] = getattr(self._np, _SAME[op.name])
            return found
        make = self._table.get(op.name)
        return make(op) if make else None

    def array(self, values: Array) -> Any:
        """The values where the library computes."""
        return values if self.name == "numpy" else self._np.asarray(values)

    def host(self, result: Any) -> Array:
        """A result's values."""
        return np.asarray(result.get() if self.name == "cupy" else result)

    def wait(self) -> object:
        """Until the device is done."""
        if self.name == "cupy":
            return self._np.cuda.get_current_stream().synchronize()
        return self._library.block_until_ready(self._last) if self.name == "jax" else None


def _table(xp: Any) -> Mapping[str, Callable[[Any], Callable[..., Any] | None]]:
    """Functions with parameters, and formulas of a few functions, as their users write them."""

    def reduction(name: str) -> Callable[[Any], Callable[..., Any]]:
        function = getattr(xp, name)
        return lambda op: lambda x: function(x, axis=op.axes, keepdims=op.keepdims)

    def copy(x: Any) -> Any:
        if xp.__name__ == "jax.numpy":  # has no strides, and so no order
            return xp.array(x, copy=True)
        return xp.array(x, order="C", copy=True)

    def softmax(x: Any) -> Any:
        e = xp.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def layer_norm(op: Any) -> Callable[..., Any]:
        def call(x: Any, weight: Any, bias: Any) -> Any:
            centred = x - x.mean(axis=-1, keepdims=True)
            variance = (centred * centred).mean(axis=-1, keepdims=True)
            return centred / xp.sqrt(variance + op.eps) * weight + bias

        return call

    def rms_norm(op: Any) -> Callable[..., Any]:
        return lambda x, w: x / xp.sqrt((x * x).mean(axis=-1, keepdims=True) + op.eps) * w

    table: dict[str, Callable[[Any], Callable[..., Any] | None]] = {
        "relu": lambda op: lambda x: xp.maximum(x, 0),
        "sigmoid": lambda op: lambda x: 1 / (1 + xp.exp(-x)),
        "silu": lambda op: lambda x: x / (1 + xp.exp(-x)),
        "rsqrt": lambda op: lambda x: 1 / xp.sqrt(x),
        "clamp": lambda op: lambda x: xp.clip(x, op.min, op.max),
        "contiguous": lambda op: copy,
        "linear": lambda op: lambda x, w, *b: x @ w.T + b[0] if b else x @ w.T,
        "argmax": lambda op: lambda x: xp.argmax(x, op.axis),
        "argmin": lambda op: lambda x: xp.argmin(x, op.axis),
        "var": lambda op: lambda x: xp.var(x, axis=op.axes, ddof=op.correction),
        "cumsum": lambda op: lambda x: xp.cumsum(x, op.axis),
        "softmax": lambda op: softmax if op.axis in (-1,) else None,
        "layer_norm": layer_norm,
        "rms_norm": rms_norm,
        "take": lambda op: lambda x, i: xp.take(x, i, axis=op.axis),
        "tril": lambda op: lambda x: xp.tril(x, op.diagonal),
        "triu": lambda op: lambda x: xp.triu(x, op.diagonal),
        "concat": lambda op: lambda *x: xp.concatenate(x, axis=op.axis),
        "einsum": lambda op: lambda *x: xp.einsum(op.equation, *x, optimize=True),
        "sort": lambda op: lambda x: xp.sort(x, axis=op.axis) if not op.descending else None,
    }
    return {**table, **{name: reduction(name) for name in _REDUCTIONS}}

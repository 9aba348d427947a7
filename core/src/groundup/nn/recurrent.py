"""LSTM and GRU, with PyTorch's weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ..._l1, ..."""

from __future__ import annotations

from typing import Any, ClassVar

from groundup import creation, ops
from groundup.backends.devices import DeviceLike
from groundup.dtypes import DTypeLike, float32
from groundup.errors import ConfigError, ShapeError
from groundup.nn import functional as F
from groundup.nn.linear import blank, spread
from groundup.nn.module import Module
from groundup.tensor import Tensor

Carry = tuple[Tensor, ...]  # what one step hands to the next, each (N, hidden)


class Recurrent(Module):
    """What LSTM and GRU share: layers that read a sequence, each step seeing the one before.

    x is (T, N, input_size), or (N, T, input_size) if `batch_first`. The inputs of all steps are
    projected by one matmul; only the hidden part runs step by step. `dropout` acts between layers,
    in training. Parameters start uniform in +-1/sqrt(hidden_size).
    """

    gates: ClassVar[int]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = float32,
    ) -> None:
        if num_layers < 1 or hidden_size < 1:
            raise ConfigError(
                f"{type(self).__name__}: needs at least one layer and unit, "
                f"got {num_layers} and {hidden_size}"
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first = bias, batch_first
        self.dropout = F.probability(dropout, type(self).__name__)
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            sizes = {"weight_ih": (rows, hidden_size if layer else input_size)}
            sizes["weight_hh"] = (rows, hidden_size)
            for name, shape in sizes.items():
                setattr(self, f"{name}_l{layer}", blank(*shape, device=device, dtype=dtype))
            for name in ("bias_ih", "bias_hh") if bias else ():
                setattr(self, f"{name}_l{layer}", blank(rows, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values again."""
        spread(self.hidden_size, *self.parameters())

    def _run(self, x: Tensor, first: Carry) -> tuple[Tensor, Carry]:
        """All layers over all steps from `first`, tensors (num_layers, N, hidden)."""
        steps = x.permute(1, 0, 2) if self.batch_first else x
        last: list[Carry] = []
        for layer, carry in enumerate(zip(*map(ops.unstack, first), strict=True)):
            if layer:
                steps = F.dropout(steps, self.dropout, self.training)
            steps, carry = self._layer(steps, carry, layer)
            last.append(carry)
        joined = tuple(ops.stack(parts) for parts in zip(*last, strict=True))
        return steps.permute(1, 0, 2) if self.batch_first else steps, joined

    def _layer(self, steps: Tensor, carry: Carry, layer: int) -> tuple[Tensor, Carry]:
        own: dict[str, Any] = vars(self)
        weight_ih, weight_hh = own[f"weight_ih_l{layer}"], own[f"weight_hh_l{layer}"]
        bias_ih, bias_hh = own.get(f"bias_ih_l{layer}"), own.get(f"bias_hh_l{layer}")
        projected = ops.linear(steps, weight_ih, bias_ih)  # (T, N, gates * hidden)
        outputs = []
        for now in ops.unstack(projected):
            hidden = ops.linear(carry[0], weight_hh, bias_hh)
            carry = self._step(now, hidden, carry)
            outputs.append(carry[0])
        return ops.stack(outputs), carry

    def _step(self, projected: Tensor, hidden: Tensor, carry: Carry) -> Carry:
        """The next carry from W_ih x + b_ih and W_hh h + b_hh, both (N, gates * hidden)."""
        raise NotImplementedError

    def _check(self, x: Tensor, first: Carry) -> None:
        name = type(self).__name__
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise ShapeError(f"{name}: x must be rank 3 and end in {self.input_size}, got {x.spec}")
        if 0 in x.shape[:2]:
            raise ShapeError(
                f"{name}: x must have at least one step and one sequence, got {x.spec}"
            )
        batch = x.shape[0] if self.batch_first else x.shape[1]
        wanted = (self.num_layers, batch, self.hidden_size)
        for state in first:
            if state.shape != wanted:
                raise ShapeError(f"{name}: an initial state must be {wanted}, got {state.spec}")

    def _zeros(self, x: Tensor) -> Tensor:
        batch = x.shape[0 if self.batch_first else 1] if x.ndim == 3 else 0
        sizes = (self.num_layers, batch, self.hidden_size)
        return creation.zeros(sizes, dtype=x.dtype, device=x.device)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, usual in (
            ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0.0),
        ):  # fmt: skip
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        return text


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997; forget gate: Gers et al., 1999).

    i, f, o = sigmoid(...), g = tanh(...) of W_ih x + b_ih + W_hh h + b_hh, in the order i, f, g, o;
    c' = f * c + i * g; h' = o * tanh(c').
    """

    gates = 4

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(outputs, (h, c)); h and c are (num_layers, N, hidden), zeros at first unless given."""
        first = (self._zeros(x), self._zeros(x)) if state is None else state
        self._check(x, first)
        outputs, (h, c) = self._run(x, first)
        return outputs, (h, c)

    def _step(self, projected: Tensor, hidden: Tensor, carry: Carry) -> Carry:
        i, f, g, o = _gates(projected + hidden, 4)
        c = f.sigmoid() * carry[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al., 2014), with the reset gate after the matmul, as PyTorch's.

    r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh); n = tanh(W_in x + b_in + r * (W_hn h + b_hn));
    h' = (1 - z) * n + z * h. The order is r, z, n.
    """

    gates = 3

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(outputs, h); h is (num_layers, N, hidden), zeros at first unless given."""
        first = (self._zeros(x) if state is None else state,)
        self._check(x, first)
        outputs, (h,) = self._run(x, first)
        return outputs, h

    def _step(self, projected: Tensor, hidden: Tensor, carry: Carry) -> Carry:
        r, z, n = _gates(projected, 3)
        hidden_r, hidden_z, hidden_n = _gates(hidden, 3)
        update = (z + hidden_z).sigmoid()
        new = (n + (r + hidden_r).sigmoid() * hidden_n).tanh()
        return (new + update * (carry[0] - new),)


def _gates(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """(N, count * hidden) in `count` parts; the gradient is one stack."""
    batch, width = x.shape
    return ops.unstack(x.reshape(batch, count, width // count), axis=1)

"""adamw, sgd and global_norm: as many tensors in one dispatch as the adapter can bind.

Where it can bind eight buffers, which all can, a dispatch updates one parameter; where it can bind
more, up to `_TOGETHER` of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs

from groundup import dtypes
from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup_webgpu.machine import Machine
from groundup_webgpu.rows import TURNS, WORKERS, kind, zeros
from groundup_webgpu.source import SCRATCH, STORED, Parameters, Stage, fragment, indented, spread

Layouts = Sequence[Layout]
_TOGETHER: Final = 16  # tensors of one dispatch at most
_RATES: Final = 32  # bytes of scratch memory: what kernels/rates.wgsl writes
_TURNS: Final = 4  # elements that a thread updates: a vector, where it can
_PARTS: Final = 1024  # sums of squares of all tensors, about
_FLOAT: Final = dtypes.float32


def update(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage] | Declined:
    """adamw or sgd: one dispatch for the numbers of the step, then the parameters."""
    tensors = _Tensors(op, inputs, outputs)
    full = [i for i in range(op.count) if outputs[i].size]
    each = 3 + 2 * op.states  # buffers of one parameter
    together = max(1, min(_TOGETHER, (machine.buffers - 1) // each))
    batches = [full[i : i + together] for i in range(0, len(full), together)]
    return [tensors.rates(), *[tensors.batch(batch) for batch in batches]] if full else []


@attrs.frozen
class _Tensors:
    """The operands of an update: lr, step, scale, then parameters, gradients and states."""

    op: Any
    inputs: Layouts
    outputs: Layouts

    def rates(self) -> Stage:
        parameters = Parameters(4)
        logs = [
            math.log(beta) if beta > 0 else -math.inf
            for beta in (getattr(self.op, name, 0.0) for name in ("beta1", "beta2"))
        ]
        parts = {f"log{i}": parameters.number(log, _FLOAT) for i, log in enumerate(logs, 1)}
        given = enumerate(self.inputs[:3], len(self.outputs))
        memory = ((SCRATCH, "f32"), *[(i, STORED[x.dtype]) for i, x in given])
        values = tuple(parameters.values)
        return Stage("rates", parts, values, memory, (1, 1, 1), scratch=_RATES)

    def batch(self, chosen: Sequence[int]) -> Stage:
        """A dispatch that updates the chosen parameters."""
        made = self._batch(chosen, vectors=False)
        if all(self.outputs[i].size % 4 for i in chosen):
            return made
        return attrs.evolve(made, aligned=self._batch(chosen, vectors=True))

    def _batch(self, chosen: Sequence[int], vectors: bool) -> Stage:
        """With `vectors`, parameters that have no rest are updated by vectors."""
        states, count = self.op.states, len(chosen)
        written, read = (1 + states) * count, (2 + states) * count
        quick = {i for i in chosen if vectors and self.outputs[i].size % 4 == 0}
        memory = [
            (n, kind(self.outputs[n].dtype, i in quick)) for i in chosen for n in self._own(i, 1)
        ]
        memory.append((SCRATCH, "f32"))
        for i in chosen:
            for n in (3 + own for own in self._own(i, 2)):
                memory.append((len(self.outputs) + n, kind(self.inputs[n].dtype, i in quick)))
        parameters = Parameters(written + 1 + read)
        common = self._constants(parameters)
        texts, first = [], 0
        for j, i in enumerate(chosen):
            size = self.outputs[i].size
            last = first + -(-size // (WORKERS * _TURNS))
            width = 4 if i in quick else 1
            own = {
                "first": parameters.add(first), "last": parameters.add(last),
                "size": parameters.add(size // width), "turns": str(_TURNS // width),
                "width": str(width),
                "decay": parameters.number(self.op.weight_decay[i], _FLOAT),
                **_names(j, states, written),
            }  # fmt: skip
            texts.append(self._text({**common, **own}))
            first = last
        parts = {
            "rates": f"param({written}u)", "updates": "".join(texts),
            "each": str(_TURNS * WORKERS),
        }  # fmt: skip
        return Stage(
            "updates", parts, tuple(parameters.values), tuple(memory), spread(first, 1),
            written=written,
        )  # fmt: skip

    def _own(self, i: int, first: int) -> Iterator[int]:
        """Numbers of parameter i, of its gradient if `first` is 2, and of its states."""
        for k in range(first + self.op.states):
            yield k * self.op.count + i

    def _constants(self, parameters: Parameters) -> dict[str, str]:
        op = self.op
        if op.name == "sgd":
            values = {"momentum": op.momentum, "fresh": 1 - op.dampening}
            return {name: parameters.number(v, _FLOAT) for name, v in values.items()}
        values = {
            "beta1": op.beta1, "rest1": 1 - op.beta1, "beta2": op.beta2, "rest2": 1 - op.beta2,
            "eps": op.eps,
        }  # fmt: skip
        numbers = {name: parameters.number(value, _FLOAT) for name, value in values.items()}
        return {**numbers, "decoupled": "true" if op.decoupled else "false"}

    def _text(self, parts: dict[str, str]) -> str:
        if self.op.name == "adamw":
            return fragment("adamw_one", parts)
        direction, lines = "g", []
        if self.op.states:
            old = f"{parts['state0']}(param({parts['state0_at']}u) / {parts['width']} + i)"
            fresh = f"{old} * {parts['momentum']} + g * {parts['fresh']}"
            lines = [
                f"let buffer = select({fresh}, g, load0(rates + 2) <= 1.0);",
                f"{parts['save1']}(param({parts['save1_at']}u) / {parts['width']} + i, buffer);",
            ]
            direction = f"(g + buffer * {parts['momentum']})" if self.op.nesterov else "buffer"
        place = f"param({parts['save0_at']}u) / {parts['width']} + i"
        lines.append(f"{parts['save0']}({place}, p - {direction} * lr);")
        step = "\n".join(f"            {line}" for line in indented(lines).split("\n"))
        return fragment("sgd_one", {**parts, "step": step})


def _names(j: int, states: int, written: int) -> dict[str, str]:
    """The functions of the j-th parameter of a batch, and where their offsets stand."""
    names = {}
    for k in range(1 + states):
        number = j * (1 + states) + k
        names[f"save{k}"], names[f"save{k}_at"] = f"save{number or ''}", str(number)
    for k, name in enumerate(["param", "grad", *[f"state{s}" for s in range(states)]]):
        number = 1 + j * (2 + states) + k  # load0 reads the rates
        names[name], names[f"{name}_at"] = f"load{number}", str(written + number)
    return names


def global_norm(
    op: Any, inputs: Layouts, outputs: Layouts, machine: Machine
) -> list[Stage] | Declined:
    """Sums of squares of pieces of the tensors, then the root of their sum."""
    full = [i for i, x in enumerate(inputs) if x.size]
    if not full:
        return [zeros(0, outputs[0])]
    each = sum(inputs[i].size for i in full) // _PARTS
    turns = min(TURNS, max(4, -(-each // WORKERS) // 4 * 4))  # vectors take a fourth of them
    together = min(_TOGETHER, machine.buffers - 1)
    stages, begin = [], 0
    for start in range(0, len(full), together):
        chosen = [(i, inputs[i]) for i in full[start : start + together]]
        made, end = _squares(chosen, begin, turns, vectors=False)
        if any(x.size % 4 == 0 for _, x in chosen):
            quick, _ = _squares(chosen, begin, turns, vectors=True)
            made = attrs.evolve(made, aligned=quick)
        stages.append(made)
        begin = end
    parameters = Parameters(2)
    parts = {"count": parameters.add(begin), "lanes": str(WORKERS)}
    root = Stage(
        "root", parts, tuple(parameters.values), ((0, STORED[_FLOAT]), (SCRATCH, "f32")),
        (1, 1, 1), scratch=4 * begin, includes=("lanes",),
    )  # fmt: skip
    return [*stages, root]


def _squares(
    chosen: Sequence[tuple[int, Layout]], begin: int, turns: int, vectors: bool
) -> tuple[Stage, int]:
    """A dispatch over some tensors whose sums stand from `begin` on, and where they end.

    With `vectors`, those that have no rest are read by vectors.
    """
    parameters = Parameters(1 + len(chosen))
    memory, texts, first = [(SCRATCH, "f32")], [], 0
    for j, (i, x) in enumerate(chosen):
        width = 4 if vectors and x.size % 4 == 0 else 1
        last = first + -(-x.size // (WORKERS * turns))
        own = {
            "first": parameters.add(first), "last": parameters.add(last),
            "size": parameters.add(x.size // width), "turns": str(turns // width),
            "tensor": f"load{j}", "tensor_at": str(1 + j), "width": str(width),
            "squared": "squared_vector" if width > 1 else "squared",
        }  # fmt: skip
        memory.append((1 + i, kind(x.dtype, width > 1)))
        texts.append(fragment("squares_one", own))
        first = last
    parts = {
        "pieces": "".join(texts), "begin": parameters.add(begin), "groups": parameters.add(first),
        "lanes": str(WORKERS),
    }  # fmt: skip
    stage = Stage(
        "squares", parts, tuple(parameters.values), tuple(memory), spread(first, 1),
        includes=("lanes",),
    )  # fmt: skip
    return stage, begin + first

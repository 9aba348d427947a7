"""AdamW from a launch for each operation to one for all parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from groundup_cuda.ladders.rung import Rung, launch, rung
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.source import OUT, SCRATCH, THREADS, Stage
from groundup_cuda.updates import lower_update

Place: TypeAlias = tuple[int, int]  # an operand, and the element that it begins with
_AMPERE: Final = (8, 0)  # all that decides here is that kernels may have 32 KB of parameters


def rungs(op: Any, inputs: Layouts, outputs: Layouts) -> Iterator[Rung]:
    """Of adamw with decoupled weight decay, for an int32 step and row-major float32 tensors that
    are not empty and begin at multiples of 16 bytes, on Volta and later.
    """
    largest = max(x.size for x in inputs[3:])
    steps = [step for i in range(op.count) for step in _operations(op, inputs, i)]
    first = "ladder/adamw_1_operations"
    yield rung("1 operations", first, *steps, scratch=2 * 4 * largest)
    for name, each in (("2 tensor", 1), ("3 vectors", 4)):
        family = f"ladder/adamw_{name.replace(' ', '_')}"
        yield rung(name, family, *[_whole(op, inputs, i, family, each) for i in range(op.count)])
    found = lower_update(op, inputs, outputs, _AMPERE)
    assert isinstance(found, Lowered)
    yield Rung("4 all", "optimizer", found)


def _operations(op: Any, inputs: Layouts, i: int) -> Iterator[Stage]:
    """The fifteen of one tensor: where to, a formula of a, b and c, and what those are."""
    n, size = op.count, inputs[3 + i].size
    value, m, v = ((OUT - i - k * n, 0) for k in range(3))
    old_value, grad, old_m, old_v = ((3 + i + k * n, 0) for k in range(4))
    g, t = (SCRATCH, 0), (SCRATCH, size)
    log1, log2 = _logs(op)

    def step(to: Place, formula: str, a: Place, b: Place | None = None, c: float = 0.0) -> Stage:
        b = b or a
        return launch(
            "ladder/adamw_1_operations", op, (to[0], a[0], b[0], 0, 1, 2), -(-size // THREADS),
            [inputs[3 + i]] * 2, size=size, out=to[1], first=a[1], second=b[1], constant=float(c),
            formula=formula,
        )  # fmt: skip

    yield step(g, "a * scale", grad)
    yield step(value, "a * (1.0f - lr * c)", old_value, c=op.weight_decay[i])
    yield step(m, "a * c", old_m, c=op.beta1)
    yield step(t, "a * c", g, c=1 - op.beta1)
    yield step(m, "a + b", m, t)
    yield step(v, "a * c", old_v, c=op.beta2)
    yield step(t, "a * a", g)
    yield step(t, "a * c", t, c=1 - op.beta2)
    yield step(v, "a + b", v, t)
    yield step(t, "a / -expm1f(step * c)", v, c=log2)
    yield step(t, "sqrtf(a)", t)
    yield step(t, "a + c", t, c=op.eps)
    yield step(t, "a / b", m, t)
    yield step(t, "a * (lr / -expm1f(step * c))", t, c=log1)
    yield step(value, "a - b", value, t)


def _whole(op: Any, inputs: Layouts, i: int, family: str, each: int) -> Stage:
    """The update of one tensor, each thread taking so many numbers."""
    n, size = op.count, inputs[3 + i].size
    operands = [OUT - i - k * n for k in range(3)] + [3 + i + k * n for k in range(4)]
    log1, log2 = _logs(op)
    return launch(
        family, op, (*operands, 0, 1, 2), -(-size // (each * THREADS)), [inputs[3 + i]] * 2,
        size=size, decay=float(op.weight_decay[i]), beta1=float(op.beta1), beta2=float(op.beta2),
        rest1=1.0 - op.beta1, rest2=1.0 - op.beta2, log1=log1, log2=log2, eps=float(op.eps),
    )  # fmt: skip


def _logs(op: Any) -> tuple[float, float]:
    """beta^step is exp(step log(beta)), which expm1 takes without cancellation."""
    first, second = (math.log(b) if b else -math.inf for b in (op.beta1, op.beta2))
    return first, second

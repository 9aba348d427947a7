"""Checking gradients against central differences in float64.

The outputs are projected on a fixed random direction c, and the gradient of <c, f(x)> that
`backward` computes is compared, element by element, with (<c, f(x + eps)> - <c, f(x - eps)>) /
(2 eps). With values near 1 that is good to about 1e-9, so a wrong digit in a formula shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from groundup.autograd import enable_grad, grad, no_grad
from groundup.creation import from_numpy
from groundup.dtypes import float64
from groundup.errors import AutogradError, GradientMismatch
from groundup.tensor import Tensor

Function: TypeAlias = Callable[..., Any]
HostArray: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


def gradcheck(
    function: Function,
    inputs: Sequence[Tensor],
    *,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
) -> bool:
    """True if the gradients of `function(*inputs)` agree with central differences.

    The function returns a Tensor or a tuple of them. Every float64 input is checked, in place:
    views stay views, and each element is put back after it was moved by `eps`. Integer and bool
    inputs are passed on. Raises GradientMismatch naming the input, the index and both values;
    AutogradError for inputs that cannot be checked (other floats, expanded views) or that no
    output depends on.
    """
    checked = [i for i, x in enumerate(inputs) if x.dtype.is_floating]
    for i in checked:
        _refuse_unsuitable(i, inputs[i])
    plain = [x.detach() for x in inputs]
    weights = _directions(_call(function, plain))
    for i, got in zip(checked, _analytic(function, plain, checked, weights), strict=True):
        wanted = _numeric(function, plain, plain[i], weights, eps)
        _compare(f"input {i} {plain[i].spec!r}", got, wanted, rtol, atol)
    return True


def gradgradcheck(
    function: Function,
    inputs: Sequence[Tensor],
    *,
    eps: float = 1e-6,
    rtol: float = 1e-4,
    atol: float = 1e-6,
) -> bool:
    """`gradcheck` of the gradient of `function`, by its inputs and its outputs' gradients."""
    checked = [i for i, x in enumerate(inputs) if x.dtype.is_floating]
    plain = [x.detach() for x in inputs]
    weights = _directions(_call(function, plain))
    cotangents = [from_numpy(w, plain[0].device) for w in weights if w is not None]
    count = len(plain)

    @enable_grad()
    def gradients(*everything: Tensor) -> tuple[Tensor, ...]:
        given = _leaves(everything[:count], checked)
        outputs = [y for y in _call(function, given) if y.dtype.is_floating]
        pairs = zip(outputs, everything[count:], strict=True)
        reached = [(y, g) for y, g in pairs if y.requires_grad]
        found = grad(
            [y for y, _ in reached],
            [given[i] for i in checked],
            [g for _, g in reached],
            create_graph=True,
        )
        return tuple(g for g in found if g is not None)

    return gradcheck(gradients, [*plain, *cotangents], eps=eps, rtol=rtol, atol=atol)


def _refuse_unsuitable(position: int, x: Tensor) -> None:
    if x.dtype is not float64:
        raise AutogradError(
            f"gradcheck: input {position} is {x.spec}; differences need float64",
            hint="use x.astype(groundup.float64)",
        )
    if x._view.layout.is_expanded:
        raise AutogradError(
            f"gradcheck: input {position} is an expanded view, its elements cannot move alone",
            hint="use x.clone(), or expand inside the function",
        )


def _call(function: Function, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    results = function(*inputs)
    return results if isinstance(results, tuple) else (results,)


def _directions(outputs: Sequence[Tensor]) -> list[HostArray | None]:
    """One random array per output, None for those that carry no gradient."""
    rng = np.random.default_rng(0)
    return [
        np.asarray(rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape))
        if y.dtype.is_floating
        else None
        for y in outputs
    ]


def _leaves(inputs: Sequence[Tensor], checked: Sequence[int]) -> list[Tensor]:
    """The inputs, those of `checked` as tensors that require a gradient.

    What is part of a graph already stays so: `gradgradcheck` differentiates through it.
    """
    return [
        x.detach().requires_grad_() if i in checked and not x.requires_grad else x
        for i, x in enumerate(inputs)
    ]


def _analytic(
    function: Function,
    inputs: Sequence[Tensor],
    checked: Sequence[int],
    weights: Sequence[HostArray | None],
) -> list[HostArray]:
    with enable_grad():
        given = _leaves(inputs, checked)
        outputs = _call(function, given)
    pairs = [
        (y, from_numpy(w.astype(y.dtype.numpy), y.device))
        for y, w in zip(outputs, weights, strict=True)
        if w is not None and y.requires_grad
    ]
    if not pairs:
        raise AutogradError("gradcheck: no output depends on an input", hint="is it under no_grad?")
    found = grad([y for y, _ in pairs], [given[i] for i in checked], [g for _, g in pairs])
    return [
        np.zeros(inputs[i].shape) if g is None else g.numpy()
        for i, g in zip(checked, found, strict=True)
    ]


def _numeric(
    function: Function,
    inputs: Sequence[Tensor],
    moved: Tensor,
    weights: Sequence[HostArray | None],
    eps: float,
) -> HostArray:
    def projected() -> float:
        outputs = _call(function, inputs)
        pairs = zip(outputs, weights, strict=True)
        return sum(float((y.detach().numpy() * w).sum()) for y, w in pairs if w is not None)

    wanted = np.zeros(moved.shape)
    with no_grad():
        for index in np.ndindex(moved.shape):
            sides = []
            for step in (eps, -eps):
                with _moved(moved, index, step):
                    sides.append(projected())
            wanted[index] = (sides[0] - sides[1]) / (2 * eps)
    return wanted


@contextmanager
def _moved(x: Tensor, index: tuple[int, ...], step: float) -> Iterator[None]:
    """One element of x, in its own memory, a step further for a while."""
    before = x[index].item()
    x[index] = before + step
    try:
        yield
    finally:
        x[index] = before


def _compare(what: str, got: HostArray, wanted: HostArray, rtol: float, atol: float) -> None:
    error = np.abs(got - wanted)
    allowed = atol + rtol * np.abs(wanted)
    wrong = ~(error <= allowed)  # NaN is wrong
    if not wrong.any():
        return
    worst = np.unravel_index(int(np.where(wrong, error, -1).argmax()), wrong.shape)
    index = [int(i) for i in worst]
    raise GradientMismatch(
        f"gradcheck: {what} at {index}: got {got[worst]:.9g}, central differences want "
        f"{wanted[worst]:.9g} ({int(wrong.sum())} of {wrong.size} elements differ)"
    )

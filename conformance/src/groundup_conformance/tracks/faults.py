"""The track `robust`: after any fault the error is of exactly the right class, inputs are
unchanged, and the next call works.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

from groundup import ones
from groundup.backends.api import Device, DeviceInfo
from groundup.errors import GroundupError, KernelCompileError, OutOfMemory
from groundup.ops.op import has
from groundup_conformance.cases import Check, Ops
from groundup_conformance.running import Failed, Figures
from groundup_conformance.seam import FullDevice, Refusal, Shortage
from groundup_conformance.tracks.trying import Attempt, first_cases, first_gradients, read
from groundup_conformance.training.models import NETWORKS
from groundup_conformance.training.runs import RECIPES, make_step, tensors

_LARGE = 1 << 19  # elements of a tensor that no backend takes from anywhere but the core's pool


# ---- cases ----


def shortages(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Memory runs out inside an op, inside its gradient."""
    for check in first_cases(ops, info, "robust", "no-memory"):
        if not _is_view(check):
            yield check
    yield from first_gradients(ops, info, "robust", "no-memory-gradient")


def failed_updates(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Memory runs out, or a kernel does not compile, inside an update in place."""
    for variant in ("no-memory-update", "no-kernel-update"):
        for check in first_cases(ops, info, "robust", variant):
            if check.sample is not None and check.sample.op.aliases:
                yield check


def refusals(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Kernels do not compile, when they are asked for or when they are first used."""
    for variant in ("no-kernel", "no-kernel-late"):
        for check in first_cases(ops, info, "robust", variant):
            if not _is_view(check):
                yield check


def _is_view(check: Check) -> bool:
    """It needs neither memory nor a kernel."""
    return check.sample is not None and has(check.sample.op, "view")


# ---- what is asked ----


def shortage(check: Check, device: Device) -> Figures:
    """Each allocation of the case fails once."""
    assert check.sample is not None
    attempt = Attempt.of(check.sample, device, pulls=check.id.variant == "no-memory-gradient")
    wanted = attempt.bits()
    for nth in range(1, _allocations(attempt.run, device) + 1):
        _expect_shortage(attempt.run, device, nth)
        _raise(attempt.changed(), f"allocation {nth}")
        if attempt.bits() != wanted:
            raise Failed(f"after allocation {nth} failed, the next call gave another result")
    return Figures()


def refusal(check: Check, device: Device) -> Figures:
    """Each kernel of the case does not compile once."""
    assert check.sample is not None
    late = check.id.variant == "no-kernel-late"
    attempt = Attempt.of(check.sample, device)
    wanted = attempt.bits()
    for nth in range(1, _kernels(attempt.run, device) + 1):
        _expect_refusal(attempt.run, device, nth, late=late)
        _raise(attempt.changed(), f"kernel {nth}")
        if attempt.bits() != wanted:
            raise Failed(f"after kernel {nth} failed, the next call gave another result")
    device.plans.clear()  # some hold kernels of ours
    return Figures()


def failed_update(check: Check, device: Device) -> Figures:
    """`dispatch.update` that fails has updated nothing; the next one does it all."""
    assert check.sample is not None
    sample = check.sample
    whole = Attempt.of(sample, device)
    whole.update()
    wanted = [read(x).tobytes() for x in whole.inputs]
    memory = check.id.variant == "no-memory-update"
    counted = Attempt.of(sample, device).update
    count = _allocations(counted, device) if memory else _kernels(counted, device)
    for nth in range(1, count + 1):
        attempt = Attempt.of(sample, device)
        if memory:
            _expect_shortage(attempt.update, device, nth)
        else:
            _expect_refusal(attempt.update, device, nth, late=False)
        _raise(attempt.changed(), f"{'allocation' if memory else 'kernel'} {nth} of an update")
        attempt.update()
        if [read(x).tobytes() for x in attempt.inputs] != wanted:
            raise Failed(f"after fault {nth}, the next update gave another result")
    return Figures()


def full_device(device: Device) -> None:
    """Memory that is full once is asked for again, after the core has emptied its cache; memory
    that stays full is an error, and the core's books are as before. Raises Failed.
    """
    x = ones(_LARGE, device=device)
    with FullDevice(device, failures=1) as once:
        y = x + x
    if once.failed != 1:
        raise Failed("a tensor of 2 MiB was not taken from the core's pool")
    if y.sum().item() != 2.0 * _LARGE:
        raise Failed("after the core had emptied its cache, a result was wrong")
    del y
    before = _taken(device)
    with FullDevice(device, failures=2):
        _expect(OutOfMemory, lambda: x + x, "memory that is full")
    after = _taken(device)
    if after != before:
        raise Failed(f"{after - before} bytes of a call that failed were never given back")
    if (x + x).sum().item() != 2.0 * _LARGE:
        raise Failed("after memory was full, the next result was wrong")


def training_step(device: Device) -> None:
    """Each allocation of a whole step fails once: the network and its optimizer are then as before
    the step, or as after it, and the step can be done again. Raises Failed.
    """
    whole = TrainingStep(device)
    before = whole.state()
    count = _allocations(whole.run, device)
    after = whole.state()
    for nth in range(1, count + 1):
        step = TrainingStep(device)
        device.constants.clear()
        with Shortage(device, nth):
            _expect(OutOfMemory, step.run, f"allocation {nth} fails")
        found = step.state()
        if found != before and found != after:
            changed = sorted({name for name, _ in found.items() ^ before.items()})
            raise Failed(f"allocation {nth} of a step failed, and it was done in part: {changed}")
        if found == before:
            step.optimizer.zero_grad()
            step.run()
            if step.state() != after:
                raise Failed(f"after allocation {nth} failed, the step done again is another")


class TrainingStep:
    """One update of the small perceptron by AdamW, from its initial parameters."""

    def __init__(self, device: Device) -> None:
        network, recipe = NETWORKS["mlp"], RECIPES["adamw"]
        self._module = network.made(device)
        self.optimizer = recipe.make(list(self._module.parameters()))
        self._step = make_step(self._module, self.optimizer, recipe)
        self._batch = tensors(network, 0, device)

    def run(self) -> None:
        """Forward, backward, update."""
        self._step(*self._batch)

    def state(self) -> dict[str, bytes]:
        """All parameters, and what the optimizer remembers of them once it has stepped."""
        kept = {**self._module.state_dict(), **self.optimizer.state_dict()}
        arrays = {name: t.numpy() for name, t in kept.items()}
        return {name: array.tobytes() for name, array in arrays.items() if array.any()}


# ---- parts ----


def _allocations(call: Callable[[], object], device: Device) -> int:
    device.constants.clear()  # what makes a constant can fail too
    with Shortage(device) as counted:
        call()
    return counted.seen


def _kernels(call: Callable[[], object], device: Device) -> int:
    with Refusal(device) as counted:
        call()
    return counted.seen


def _expect_shortage(call: Callable[[], object], device: Device, nth: int) -> None:
    device.constants.clear()
    before = device.pool.in_use
    with Shortage(device, nth):
        _expect(OutOfMemory, call, f"allocation {nth} fails")
    device.constants.clear()
    if device.pool.in_use > before:
        kept = _taken(device) - before
        if kept > 0:
            raise Failed(f"allocation {nth} failed, and {kept} bytes were never given back")


def _expect_refusal(call: Callable[[], object], device: Device, nth: int, *, late: bool) -> None:
    with Refusal(device, nth, late=late):
        _expect(KernelCompileError, call, f"kernel {nth} does not compile")


def _expect(kind: type[GroundupError], call: Callable[[], object], when: str) -> None:
    """Raises Failed unless `call` raises exactly `kind`."""
    try:
        call()
    except GroundupError as error:
        if type(error) is not kind:
            raise Failed(
                f"{when}: wanted {kind.__name__}, got {type(error).__name__}: {error}"
            ) from error
    except Exception as error:
        raise Failed(f"{when}: {type(error).__name__} is no error of groundup: {error}") from error
    else:
        raise Failed(f"{when}, and there was no {kind.__name__}")


def _taken(device: Device) -> int:
    """Bytes that are handed out, and not only to garbage."""
    gc.collect()
    return device.pool.in_use


def _raise(problem: str | None, where: str) -> None:
    if problem is not None:
        raise Failed(f"{problem} when {where} failed")

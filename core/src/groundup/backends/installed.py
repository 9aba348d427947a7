"""What the loaded plugins bring: backends by name, and kernels that packages add to them."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import attrs

from groundup.backends.api import (
    API_VERSION,
    Available,
    Backend,
    Declined,
    Device,
    Kernel,
    Kernels,
    Unavailable,
)
from groundup.backends.plugins import (
    PLUGIN_FAULTS,
    Answer,
    Once,
    PluginProblem,
    blame,
    one_line,
    plugins,
)
from groundup.errors import GroundupError, PluginError
from groundup.layout import Layout
from groundup.suggest import did_you_mean

if TYPE_CHECKING:
    from groundup.ops.op import Op


@attrs.frozen(slots=False)  # room for the cached probe
class BackendEntry:
    """A backend by the name that users type: it is there, or `problem` says why it is not."""

    name: str
    distribution: str
    backend: Backend | None
    problem: PluginProblem | None = None

    def probe(self) -> Available | Unavailable:
        """The backend's probe, guarded: whatever it does, there is an answer. It runs once."""
        return self._answer

    @cached_property
    def _answer(self) -> Available | Unavailable:
        if self.backend is None:
            assert self.problem is not None
            return Unavailable(self.problem.reason, self.problem.fix)
        try:
            answer: object = self.backend.probe()
        except PLUGIN_FAULTS as error:
            reason = f"its probe raised {one_line(error)}"
            return Unavailable(reason, blame(self.distribution))
        if isinstance(answer, Unavailable):
            return answer
        if not isinstance(answer, Available):
            reason = f"its probe returned {answer!r} instead of Available or Unavailable"
            return Unavailable(reason, blame(self.distribution))
        if not answer.devices:
            return Unavailable("its probe found no device", blame(self.distribution))
        return answer


def _collect() -> dict[str, BackendEntry]:
    loaded = plugins()
    entries: dict[str, BackendEntry] = {}
    for answer in loaded.call("groundup_backends", stage="backend"):
        try:
            for backend in _as_list(answer.value):
                _admit(backend, answer, entries)
        except PLUGIN_FAULTS as error:  # an attribute that raises when it is read
            loaded.report(answer.plugin, "backend", one_line(error), error=error)
    # A plugin that did not get as far as naming its backend is known by its entry point.
    for problem in loaded.problems:
        if problem.stage in ("import", "register", "backend"):
            failed = BackendEntry(problem.name, problem.distribution, None, problem)
            entries.setdefault(problem.name, failed)
    return entries


backends: Final = Once(_collect, busy="a plugin used a device while the backends were collected")
"""The backends by name, those that failed included."""


def problems() -> list[PluginProblem]:
    """Everything found wrong with the installed plugins so far, in order."""
    backends()  # looks at them all
    return list(plugins().problems)


def _admit(backend: Any, answer: Answer, entries: dict[str, BackendEntry]) -> None:
    """Enter a backend under its name, or the reason why it cannot be used."""
    name: Any = getattr(backend, "name", None)
    fault = (
        _malformed(backend, name)
        or _second(name, answer.distribution, entries)
        or _version_mismatch(backend, answer.distribution)
    )
    if fault is None:
        entries[name] = BackendEntry(name, answer.distribution, backend)
        return
    reason, fix = fault
    problem = plugins().report(answer.plugin, "backend", reason, fix=fix)
    if isinstance(name, str):
        entries.setdefault(name, BackendEntry(name, answer.distribution, None, problem))


# Each of these gives (reason, fix), or None if all is well; without a fix the authors must mend it.


def _malformed(backend: object, name: object) -> tuple[str, str | None] | None:
    if not isinstance(backend, Backend) or not isinstance(name, str):
        return f"groundup_backends gave {backend!r}, which is not a Backend with a name", None
    if not (name.isidentifier() and name.isascii() and name.islower()):
        return f"{name!r} cannot be the name of a backend: a-z, digits and _ only", None
    if not isinstance(getattr(backend, "priority", None), int):
        return f"the backend {name!r} has no priority, an integer", None
    return None


def _second(
    name: str, distribution: str, entries: Mapping[str, BackendEntry]
) -> tuple[str, str] | None:
    if name not in entries or entries[name].backend is None:
        return None
    first = entries[name].distribution
    reason = f"a second backend of the name {name!r}; the one of {first} is used"
    return reason, f"pip uninstall {distribution} or {first}"


def _version_mismatch(backend: Backend, distribution: str) -> tuple[str, str] | None:
    """Accepted are the core's major and a minor that is not newer than the core's."""
    asked = getattr(backend, "api_version", None)
    match asked:
        case (int(major), int(minor)):
            pass
        case _:
            return f"its api_version is {asked!r}, not two integers", blame(distribution)
    if (major, minor) > API_VERSION:
        fix = "pip install --upgrade groundup"
    elif major < API_VERSION[0]:
        fix = f"pip install --upgrade {distribution}"
    else:
        return None
    core = "{}.{}".format(*API_VERSION)
    return f"it needs backend API {major}.{minor}, this groundup has {core}", fix


# ---- kernels that packages add ----


class Override:
    """The kernels that packages add for one op of one backend, beside the backend's own.

    It is a `KernelFactory`, so a device keeps it in `overrides`.
    """

    def __init__(self, op: str, backend: str) -> None:
        self.op = op
        self.backend = backend
        self.offers: list[Kernels] = []
        self.plugins: list[str] = []

    def add(self, offer: Kernels, plugin: str) -> None:
        """Take a plugin's `offer` among those to ask, the highest priority first."""
        self.plugins.append(plugin)
        self.offers.append(offer)
        self.offers.sort(key=lambda kernels: -kernels.priority)

    def tie(self) -> str | None:
        """Why nobody can say which kernel to use, if two have one priority."""
        seen = {0: f"{self.backend} itself"}
        for offer in self.offers:
            rival = seen.setdefault(offer.priority, offer.provider)
            if rival is not offer.provider:
                return (
                    f"{self.op}: the kernels for {self.backend} of {rival} and {offer.provider} "
                    f"have the same priority {offer.priority}"
                )
        return None

    def choose(
        self, device: Device, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> tuple[str, Kernel | Declined]:
        """The provider's name and its kernel, or why every one of them declined.

        Raises PluginError on a tie, and when a package's factory raises.
        """
        tie = self.tie()
        if tie is not None:
            raise PluginError(tie, hint="leave one of them out with GROUNDUP_PLUGINS")
        own = Kernels({self.op: _own_kernel}, self.backend, priority=0)
        declined = []
        for offer in sorted([*self.offers, own], key=lambda kernels: -kernels.priority):
            kernel = _ask(offer, device, op, inputs, outputs)
            if isinstance(kernel, Kernel):
                return offer.provider, kernel
            declined.append(f"{offer.provider}: {kernel.reason}")
        return self.backend, Declined("; ".join(declined))

    def __call__(
        self, device: Device, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> Kernel | Declined:
        """What `choose` chose."""
        return self.choose(device, op, inputs, outputs)[1]


def _own_kernel(
    device: Device, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
) -> Kernel | Declined:
    return device.kernel(op, inputs, outputs)


def _ask(
    offer: Kernels, device: Device, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
) -> Kernel | Declined:
    """One provider's kernel, if it knows every parameter that the op sets."""
    try:
        kernel = offer.table[op.name](device, op, inputs, outputs)
    except GroundupError:
        raise
    except Exception as error:
        reason = f"{op.name}: the kernel factory of {offer.provider} raised {one_line(error)}"
        raise PluginError(reason, hint="leave it out with GROUNDUP_PLUGINS") from error
    if isinstance(kernel, Kernel):
        unknown = sorted(set(op.nondefault()) - kernel.params)
        if unknown:
            return Declined(f"its kernel does not know {', '.join(unknown)}")
    return kernel


_overrides: Final[dict[str, Mapping[str, Override]]] = {}
_overrides_lock: Final = threading.RLock()


def kernels_for(backend_name: str) -> Mapping[str, Override]:
    """The kernels that packages add to a backend, by the name of the op.

    A tie, or an answer that is no `Kernels`, is reported as a problem here; a tie raises only when
    that op is run, so that it harms no other.
    """
    with _overrides_lock:
        if backend_name not in _overrides:
            _overrides[backend_name] = _collect_kernels(backend_name)
        return _overrides[backend_name]


def check_kernel_names(backend_name: str, ops: Collection[str]) -> list[PluginProblem]:
    """Report kernels for ops that do not exist, which would never be asked for.

    `ops` are the names of all ops; this layer lies below the registry and does not know them.
    """
    found = []
    for name, override in kernels_for(backend_name).items():
        if name not in ops:
            reason = f"its kernel for {backend_name} is of an op {name!r} that does not exist"
            fix = did_you_mean(name, ops) or "see `groundup ops`"
            found += [
                plugins().report(plugin, "kernels", reason, fix=fix) for plugin in override.plugins
            ]
    return found


def _collect_kernels(backend_name: str) -> dict[str, Override]:
    found: dict[str, Override] = {}
    loaded = plugins()
    for answer in loaded.call("groundup_kernels", stage="kernels", backend_name=backend_name):
        for offer in _as_list(answer.value):
            if isinstance(offer, Kernels) and isinstance(offer.table, Mapping):
                _admit_kernels(offer, answer.plugin, backend_name, found)
            else:
                reason = f"groundup_kernels gave {offer!r}, which is not a Kernels with a table"
                loaded.report(answer.plugin, "kernels", reason)
    return found


def _admit_kernels(
    offer: Kernels, plugin: str, backend_name: str, found: dict[str, Override]
) -> None:
    for op in offer.table:
        override = found.setdefault(op, Override(op, backend_name))
        override.add(offer, plugin)
        tie = override.tie()
        if tie is not None:
            fix = "give one a higher priority, or leave one out with GROUNDUP_PLUGINS"
            plugins().report(plugin, "kernels", tie, fix=fix)


def _as_list(value: Any) -> list[Any]:
    """Hooks may return one thing or a sequence of them."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]

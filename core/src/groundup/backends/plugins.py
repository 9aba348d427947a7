"""Loading plugins: entry points are walked one by one, so that a broken plugin harms only itself.

Whatever goes wrong becomes a `PluginProblem`: logged, listed by `groundup backends`, and raised
when that plugin's backend is asked for by name. Nothing loads before the first device, op listing
or command needs it. What the loaded plugins bring is collected in `installed.py`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

import attrs
import pluggy

from groundup.backends import hookspecs
from groundup.errors import PluginError
from groundup.suggest import did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")
Stage = Literal["select", "import", "register", "hooks", "call", "backend", "kernels", "passes"]

# The project's own plugins: named in hints, and preferred where a stranger claims their names.
FIRST_PARTY: Final = {
    "cpu": "groundup-cpu-ref",
    "cuda": "groundup-cuda",
    "webgpu": "groundup-webgpu",
}
HOOKS: Final = tuple(name for name in vars(hookspecs) if name.startswith("groundup_"))

# What a plugin's code may throw at us. An interrupt is the user's, not the plugin's.
PLUGIN_FAULTS: Final = (Exception, SystemExit)

log = logging.getLogger("groundup.plugins")


class Once(Generic[T]):
    """A value made at its first use, by one thread.

    Asking for it while it is being made (a plugin that opens a device when it is imported) raises
    PluginError, where a plain lock would wait for ever.
    """

    def __init__(self, make: Callable[[], T], busy: str) -> None:
        self._make = make
        self._busy = busy
        self._lock = threading.RLock()
        self._making = False
        self._value: T | None = None

    def __call__(self) -> T:
        """The value."""
        if self._value is not None:
            return self._value
        with self._lock:
            if self._value is None:
                if self._making:
                    raise PluginError(self._busy, hint="move that into Backend.open")
                self._making = True
                try:
                    self._value = self._make()
                finally:
                    self._making = False
            return self._value


@attrs.frozen
class PluginProblem:
    """Something about a plugin that does not work; everything else does."""

    name: str  # of the entry point
    distribution: str
    stage: Stage
    reason: str
    fix: str
    error: BaseException | None = attrs.field(default=None, eq=False, repr=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution}): {self.reason} ({self.fix})"


@attrs.frozen
class Answer:
    """What one plugin returned from a hook."""

    plugin: str
    distribution: str
    value: Any


class Plugins:
    """The plugins of this environment, loaded. `plugins()` is the set that everyone shares.

    `only` are the names of the entry points to load; None loads all.
    """

    def __init__(self, only: Sequence[str] | None = None) -> None:
        self.problems: list[PluginProblem] = []
        self.distributions: dict[str, str] = {}  # by entry point, left out or not
        self.left_out: set[str] = set()  # by `only`
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for entry in self._select(only):
            self._load(entry)

    @property
    def names(self) -> list[str]:
        """The plugins that loaded."""
        return [name for name, _ in self._manager.list_name_plugin()]

    def call(self, hook: str, *, stage: Stage = "call", **arguments: object) -> list[Answer]:
        """Each plugin's answer to `hook`, in load order, without None.

        A plugin that raises is reported as a problem of `stage` and does not answer.
        """
        answers: list[Answer] = []
        loaded = self._manager.list_name_plugin()
        for name, plugin in loaded:
            # One at a time: called together, the first that raises would silence the others.
            others = [other for _, other in loaded if other is not plugin]
            caller = self._manager.subset_hook_caller(hook, others)
            try:
                values = caller(**arguments)
            except PLUGIN_FAULTS as error:
                self.report(name, stage, f"{hook} raised {one_line(error)}", error=error)
            else:
                answers += [Answer(name, self.distributions[name], value) for value in values]
        return answers

    def report(
        self,
        name: str,
        stage: Stage,
        reason: str,
        *,
        fix: str | None = None,
        distribution: str | None = None,
        error: BaseException | None = None,
    ) -> PluginProblem:
        """Note, and log, a problem of the plugin `name`."""
        owner = distribution or self.distributions.get(name, "not installed")
        problem = PluginProblem(name, owner, stage, reason, fix or blame(owner), error)
        self.problems.append(problem)
        log.warning("plugin %s", problem)
        return problem

    def _select(self, only: Sequence[str] | None) -> Iterator[EntryPoint]:
        """The entry points to load: one per name, whatever the order of installation was."""
        from importlib.metadata import EntryPoint, entry_points  # 20 ms, so not before it is used

        self.distributions["null"] = "groundup"
        yield EntryPoint("null", "groundup.backends.null", hookspecs.PROJECT)
        for entry in sorted(entry_points(group=hookspecs.PROJECT), key=_precedence):
            distribution = distribution_of(entry)
            if entry.name in self.distributions:
                self._report_second(entry.name, distribution)
                continue
            self.distributions[entry.name] = distribution
            if only is None or entry.name in only:
                yield entry
            else:
                self.left_out.add(entry.name)
        for name in only or ():
            if name not in self.distributions:
                reason = "GROUNDUP_PLUGINS names it, but no such plugin is installed"
                fix = did_you_mean(name, self.distributions) or install_hint(name)
                self.report(name, "select", reason, fix=fix)

    def _report_second(self, name: str, distribution: str) -> None:
        first = self.distributions[name]
        reason = f"a second plugin of the name {name!r}; the one of {first} is used"
        fix = f"pip uninstall {distribution} or {first}"
        self.report(name, "select", reason, fix=fix, distribution=distribution)

    def _load(self, entry: EntryPoint) -> None:
        try:
            module = entry.load()
        except PLUGIN_FAULTS as error:
            reason = f"importing {entry.value} raised {one_line(error)}"
            self.report(entry.name, "import", reason, error=error)
            return
        if not isinstance(module, ModuleType):
            reason = f"its entry point {entry.value!r} is not a module"
            self.report(entry.name, "import", reason)
            return
        try:
            self._manager.register(module, entry.name)
        except PLUGIN_FAULTS as error:  # a hook with wrong arguments, one module under two names
            reason = "; ".join(str(error).splitlines())
            self.report(entry.name, "register", reason, error=error)
            return
        self._check_hook_names(entry.name, module)

    def _check_hook_names(self, name: str, module: ModuleType) -> None:
        """Report functions marked as hooks that will never be called: no hook has their name."""
        for attribute in dir(module):
            options = self._manager.parse_hookimpl_opts(module, attribute)
            if options is None or options.get("optionalhook"):
                continue
            hook = options.get("specname") or attribute
            if hook not in HOOKS:
                fix = did_you_mean(hook, HOOKS) or f"the hooks are {', '.join(HOOKS)}"
                self.report(name, "hooks", f"there is no hook {hook}, it is never called", fix=fix)


def selection() -> list[str] | None:
    """The names in GROUNDUP_PLUGINS; None, for all, where it is unset or empty."""
    names = [name.strip() for name in os.environ.get("GROUNDUP_PLUGINS", "").split(",")]
    return [name for name in names if name] or None


plugins: Final = Once(
    lambda: Plugins(selection()),
    busy="a plugin used a device while the plugins were being loaded",
)


# ---- words ----


def one_line(error: BaseException) -> str:
    """'ImportError: no module named x': the type and the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def blame(distribution: str) -> str:
    """The way out when only the plugin's authors can mend it."""
    return f"update, report or uninstall {distribution}"


def install_hint(name: str) -> str:
    """The way out when a backend's package is not there."""
    if name in FIRST_PARTY:
        return f"pip install {FIRST_PARTY[name]}"
    return "install the package that brings it, or correct the name"


def distribution_of(entry: EntryPoint) -> str:
    """The name of the package that declares the entry point."""
    return entry.dist.name if entry.dist is not None else "groundup"


def _precedence(entry: EntryPoint) -> tuple[bool, str, str]:
    distribution = distribution_of(entry)
    return FIRST_PARTY.get(entry.name) != distribution, entry.name, distribution

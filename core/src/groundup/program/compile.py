"""`groundup.compile`: the first call of a function traces it, later calls replay the program.

    @groundup.compile
    def step(x, y):
        loss = model(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

What the function does with tensors is replayed; what it does besides happens once, while it is
traced. Reading a value on the host, choosing by one, setting attributes of modules, closures,
globals and `self` raise TraceError. What cannot be seen is on you: changes deep inside other
objects, files, the clock, and random numbers that do not come from groundup are as they were when
the function was traced.
"""

from __future__ import annotations

import functools
import logging
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, overload

import attrs

from groundup.autocast import autocast
from groundup.dtypes import DType
from groundup.errors import ProgramError
from groundup.files import StrPath
from groundup.graph import mode, observers
from groundup.program import signature as trees
from groundup.program.entry import Entry, trace_call
from groundup.program.guards import Surroundings, token
from groundup.program.passes import PASSES, Pass
from groundup.program.passes.dead_code import remove_dead_code
from groundup.program.program import Program
from groundup.program.saved import host_state, save
from groundup.program.trace import Tracer
from groundup.spans import span
from groundup.tensor import Tensor

_log: Final = logging.getLogger("groundup.compile")
_MANY: Final = 8  # retraces of one function after which its author should know


@overload
def compile(function: Callable[..., Any], *, passes: Sequence[Pass] = PASSES) -> Compiled: ...


@overload
def compile(*, passes: Sequence[Pass]) -> Callable[[Callable[..., Any]], Compiled]: ...


def compile(
    function: Callable[..., Any] | None = None, *, passes: Sequence[Pass] = PASSES
) -> Compiled | Callable[[Callable[..., Any]], Compiled]:
    """`function`, traced once per kind of arguments and replayed from then on.

    A decorator for functions and methods, or a call: `groundup.compile(model)`. Tensors among the
    arguments (also in tuples, lists and dictionaries) are inputs; other arguments belong to the
    program, and a new value of one makes a new program. Arguments that the function writes to are
    written to after each run. Tensors that the function captures keep
    their memory, which the program reads and updates: parameters, optimizer state, random states.
    It returns fresh tensors. Inside another compiled function it is part of that one.

    `passes` are what is done to its programs; `groundup.program.passes.EXACT` leaves fusion out, so
    that results are the eager function's to the bit on every device. `@compile(passes=...)` works
    too.

    Raises TraceError for what a program cannot contain, with the line and a way out; nothing has
    changed then.
    """
    if function is None:
        return functools.partial(Compiled, passes=passes)
    return Compiled(function, passes)


class Compiled:
    """A compiled function: see `compile`. Unknown attributes are those of the function.

    `entries` are its programs so far with their plans and launches, `retraces` says why each but
    the first was traced.
    """

    def __init__(self, function: Callable[..., Any], passes: Sequence[Pass] = PASSES) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.passes = tuple(passes)
        self.retraces: list[str] = []
        self._entries: dict[object, list[Entry]] = {}
        self._lock = threading.RLock()
        self._last: Entry | None = None
        self._arguments: Mapping[str, tuple[str, object]] = {}  # of the last trace, for messages
        self._keep: list[object] = []  # arguments that keys name by identity
        self._warned = False

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)

    @property
    def entries(self) -> list[Entry]:
        """With their guards, plans and launches."""
        return [entry for entries in self._entries.values() for entry in entries]

    @property
    def programs(self) -> list[Program]:
        """The programs as they run, after all passes."""
        return [entry.executable.program for entry in self.entries]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's result, by its program for such arguments. Raises TraceError."""
        if isinstance(mode.trace, Tracer):  # a part of that program, which depends on what it names
            Surroundings.of(self.function, {}).guard(mode.trace.guards)
            return self.function(*args, **kwargs)
        if not _may_replay():
            return self.function(*args, **kwargs)
        tensors: list[Tensor] = []
        with self._lock:
            return self._entry(args, kwargs, tensors).run(tensors)

    def trace(self, *args: Any, **kwargs: Any) -> Entry:
        """The program for such arguments, traced if there is none yet, and not run.

        Its `traced` and `executable.program` print as listings, `executable.plan` as figures.
        """
        with self._lock:
            return self._entry(args, kwargs, [])

    def _entry(self, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Tensor]) -> Entry:
        """The program for a call; `tensors` are filled in from its arguments."""
        key: object = (trees.flatten(args, tensors), trees.flatten(kwargs, tensors), mode.grad)
        dtypes = _autocast_dtypes() if mode.interceptor is not None else ()
        key = (key, dtypes) if dtypes else key
        return self._find(key, tensors) or self._trace(key, args, kwargs, tensors)

    def _find(self, key: object, tensors: Sequence[Tensor]) -> Entry | None:
        for entry in self._entries.get(key, ()):
            if entry.grads_fit(tensors) and entry.guards.broken() is None:
                return entry
        return None

    def _trace(
        self, key: object, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Tensor]
    ) -> Entry:
        leaves = dict(trees.paths(self.function, args, kwargs))
        arguments = {name: _described(value) for name, value in leaves.items()}
        same_key = self._entries.setdefault(key, [])
        if self._last is not None:
            broken = _reason(same_key, tensors)
            self._note_retrace(broken or _difference(arguments, self._arguments))
        with span(self._name, "trace"):
            entry = trace_call(self.function, args, kwargs, tensors, self.passes)
        # Programs whose guards broke would mostly be tried in vain, and they hold memory.
        same_key[:] = [each for each in same_key if each.guards.broken() is None]
        same_key.append(entry)
        self._keep += [value for value in leaves.values() if not isinstance(value, Tensor)]
        self._last, self._arguments = entry, arguments
        return entry

    @property
    def _name(self) -> str:
        return getattr(self.function, "__qualname__", type(self.function).__name__)

    def _note_retrace(self, reason: str) -> None:
        self.retraces.append(reason)
        _log.info("%s is traced anew (%d): %s", self._name, len(self.retraces), reason)
        if len(self.retraces) > _MANY and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._name} was traced {len(self.retraces) + 1} times, the last time because of "
                f"{reason}: pass what changes as a tensor, and give tensors few different shapes",
                stacklevel=4,
            )

    def save(self, path: StrPath) -> None:
        """Write the program that was traced last, with what it captured (`program.saved.load`).

        Gradients that stay in `.grad` after the function belong to its Python and are left out.
        Raises ProgramError before the first call, CheckpointError for what a file cannot hold.
        """
        if self._last is None:
            raise ProgramError("there is no program yet", hint="call the compiled function first")
        executable = self._last.executable
        if self._last.written:
            raise ProgramError("the program writes to its arguments", hint="return the new values")
        if any(use.given is not None for use in self._last.grads):
            raise ProgramError(
                "the program adds to gradients that were there before it",
                hint="save one that was traced without gradients",
            )
        results = len(self._last.differentiable)
        kept = attrs.evolve(executable.program, outputs=executable.program.outputs[:results])
        program = remove_dead_code(kept)
        state = host_state(program, executable.state, executable.device)
        save(path, program, self._last.result, state)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies, as of a module that holds one, have programs of their own: none so far."""
        return Compiled, (self.function, self.passes)

    def __repr__(self) -> str:
        return f"compiled({self.function!r}, {len(self.entries)} programs)"


def _may_replay() -> bool:
    """Whether no interceptor, such as `detect_anomaly`, must see every op run."""
    for observer in observers() if mode.interceptor is not None else ():
        if not observer.watches_only and not isinstance(observer, autocast):
            _log.info("%s is active: the function runs eagerly", type(observer).__name__)
            return False
    return True


def _autocast_dtypes() -> tuple[DType, ...]:
    """What the active interceptors mean for a trace: profiles, which only watch, nothing."""
    return tuple([each.dtype for each in observers() if isinstance(each, autocast)])


# ---- why a function is traced anew ----


def _described(value: Any) -> tuple[str, object]:
    """A text for messages, and what tells other objects of the same text apart."""
    return trees.describe(value), None if isinstance(value, Tensor) else token(value)


def _reason(same_key: Sequence[Entry], tensors: Sequence[Tensor]) -> str | None:
    """What no longer holds of a program for such arguments, if there is one."""
    for entry in same_key:
        broken = entry.guards.broken()
        if broken is not None:
            return broken
        if not entry.grads_fit(tensors):
            return "gradients that are there or not"
    return None


def _difference(
    now: Mapping[str, tuple[str, object]], before: Mapping[str, tuple[str, object]]
) -> str:
    """How the arguments differ from those of the last trace."""
    for name, (text, identity) in now.items():
        if name not in before:
            return f"{name}: {text}, was not there"
        if text != before[name][0]:
            return f"{name}: {text}, was {before[name][0]}"
        if identity != before[name][1]:
            return f"{name}: another one, {text}"
    missing = [name for name in before if name not in now]
    return f"{missing[0]}: is not there" if missing else "no_grad or autocast"

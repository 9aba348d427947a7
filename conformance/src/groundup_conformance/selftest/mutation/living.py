"""One mutant alive: a forked process whose kernels are those of the changed source.

A fork has all that was imported and prepared, and whatever the mutant does to it (an endless loop,
memory that is never enough, a crash) ends with it.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs

from groundup_conformance.selftest.mutation.operators import mutated

_MEMORY: Final = 4 << 30  # bytes that a mutant may take beyond what there was


@attrs.define(eq=False)
class Life:
    """A running mutant. Its process writes one line and ends."""

    pid: int
    pipe: int
    deadline: float
    text: bytes = b""

    def end(self) -> str:
        """What it wrote; "crash" or "timeout" if it did not come to that. Waits for its end."""
        late = time.monotonic() >= self.deadline
        if late:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.pipe)
        _, status = os.waitpid(self.pid, 0)
        if late:
            return "timeout"
        return self.text.decode() if os.waitstatus_to_exitcode(status) == 0 else "crash"


def begin(live: Callable[[], str], timeout: float) -> Life:
    """Fork; the child writes what `live` returns."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # our idle threads hold no locks
        pid = os.fork()
    if pid == 0:
        _be_a_child(live, writing)
    os.close(writing)
    return Life(pid, reading, time.monotonic() + timeout)


def _be_a_child(live: Callable[[], str], writing: int) -> None:
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what BLAS has to say about a mutant
        _limit_memory()
        os.write(writing, live().encode())
        code = 0
    finally:
        os._exit(code)


def wait(lives: Sequence[Life]) -> list[Life]:
    """Those that have ended or are late; waits until there is one."""
    while True:
        now = time.monotonic()
        late = [life for life in lives if life.deadline <= now]
        if late:
            return late
        timeout = min(life.deadline for life in lives) - now
        ready, _, _ = select.select([life.pipe for life in lives], [], [], timeout)
        ended = []
        for life in lives:
            if life.pipe in ready:
                part = os.read(life.pipe, 65536)
                life.text += part
                if not part:
                    ended.append(life)
        if ended:
            return ended


def become(module: ModuleType, number: int) -> None:
    """Put the source's mutant in the place of the module, wherever its functions are used.

    Its kernels register themselves again; what other modules imported of it is replaced.
    """
    path = str(module.__file__)
    tree = mutated(Path(path).read_text(encoding="utf-8"), number)
    before = {
        name: value
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    }
    exec(compile(tree, path, "exec"), vars(module))
    package = module.__name__.partition(".")[0]
    for other in [m for n, m in sys.modules.items() if n.partition(".")[0] == package]:
        for name, value in before.items():
            if vars(other).get(name) is value:
                setattr(other, name, vars(module)[name])


def _limit_memory() -> None:
    """Fail with MemoryError instead of taking the machine down."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc").exists() else 0
    most = pages * resource.getpagesize() + _MEMORY
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def jobs() -> int:
    """How many mutants live at a time."""
    affinity: Any = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1

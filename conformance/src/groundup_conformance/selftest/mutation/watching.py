"""Which lines of the kernels each case runs, so that a mutant is shown only to those that can tell.

Python's own tracing, in all threads, of the kernels' files alone.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from types import FrameType
from typing import Any, Final

import attrs

from groundup.backends.api import Device
from groundup_conformance.running import Oracle
from groundup_conformance.selftest.mutation.operators import Mutant
from groundup_conformance.selftest.questions import Question

_QUICK: Final = 0.05  # seconds; slower cases come last
_MOST: Final = 2000  # cases that a mutant must stand, of those that run its line


class Watch:
    """While active, notes the lines of `files` (paths) that run."""

    def __init__(self, files: Collection[str]) -> None:
        self.lines: set[tuple[str, int]] = set()
        self._files = frozenset(files)

    def __enter__(self) -> Watch:
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line


@attrs.define(eq=False)
class Seen:
    """What a clean run showed: how long each case takes, which cases run a line."""

    classes: list[tuple[str, str]]  # of each case: its op, its kind
    seconds: list[float]
    failed: dict[str, str]  # cases that fail without a mutant -> why
    by_line: Mapping[tuple[str, int], set[int]]

    def cases(self, mutant: Mutant, path: str) -> list[int]:
        """The cases to which the mutant can matter, those that are quick first.

        Those that run its line; if none does, its statement; if none does (it runs at import, or
        never), any of the file.
        """
        exact = set(self.by_line.get((path, mutant.line), ()))
        if not exact:
            first, last = mutant.span
            exact = {c for line in range(first, last + 1) for c in self._at(path, line)}
        if not exact:
            exact = {c for (file, _), cases in self.by_line.items() if file == path for c in cases}
        return sorted(self._some(sorted(exact)), key=lambda c: (self.seconds[c] > _QUICK, c))

    def _some(self, cases: Sequence[int]) -> list[int]:
        """Not too many: the first of each op and kind, the last of each, the second of each, ..."""
        members: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for case in cases:
            members[self.classes[case]].append(case)
        ranked = []
        for group in members.values():
            for place, case in enumerate(group):
                ranked.append((min(2 * place, 2 * (len(group) - place) - 1), case))
        return [case for _, case in sorted(ranked)[:_MOST]]

    def _at(self, path: str, line: int) -> set[int]:
        return self.by_line.get((path, line), set())


def watch(
    questions: Sequence[Question], device: Device, oracle: Oracle, files: Collection[str]
) -> Seen:
    """Ask every case of a clean device, watching."""
    seconds, failed = [], {}
    by_line: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
    for number, question in enumerate(questions):
        device.plans.clear()  # it is to run all that it depends on, kernels being made too
        start = time.perf_counter()
        with Watch(files) as watch:
            reason = question.ask(device, oracle)
        seconds.append(time.perf_counter() - start)
        if reason is not None:
            failed[str(question.id)] = reason
            continue  # it cannot tell a mutant from none
        for line in watch.lines:
            by_line[line].add(number)
    classes = [(question.id.op, question.kind) for question in questions]
    return Seen(classes, seconds, failed, by_line)

"""What a run shows while it works: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

from groundup.errors import CheckpointError
from groundup.files import reason


class Progress(ABC):
    """Active between `with` and its end; `say` works at any time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    @abstractmethod
    def show(self, line: Mapping[str, Any]) -> None:
        """Show a line of metrics."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Print a message that stays."""


def progress(total: int, done: int) -> Progress:
    """A bar if stdout is a terminal, else lines."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return Bar(total, done) if terminal else Lines(total, done)


def describe(line: Mapping[str, Any]) -> str:
    """A line of metrics in words."""
    text = f"loss {line['loss']:.4f}"
    if "val_loss" in line:
        text += f"  val {line['val_loss']:.4f}"
    return f"{text}  lr {line['lr']:.1e}  {line['tokens_per_second']:,.0f} tok/s"


class Lines(Progress):
    """One line per line of metrics, flushed, so that a log can be watched."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done = total, done
        self.begun = time.monotonic()

    def show(self, line: Mapping[str, Any]) -> None:
        """Print it with the time that remains."""
        elapsed = time.monotonic() - self.begun
        left = elapsed / (line["step"] - self.done) * (self.total - line["step"])
        self.say(f"step {line['step']}/{self.total}  {describe(line)}  eta {clock(left)}")

    def say(self, text: str) -> None:
        """Print it. Raises CheckpointError if nobody can read it: the reader of a pipe is gone."""
        if sys.stdout is None:  # closed, as by `>&-`
            return
        encoding = sys.stdout.encoding or "utf-8"
        try:
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
            sys.stdout.flush()
        except OSError as error:
            raise CheckpointError(
                f"cannot write to standard output: {reason(error)}",
                hint="the run goes on from its last save with --resume",
            ) from error


class Bar(Progress):
    """rich's progress bar with loss, speed and the time that remains."""

    def __init__(self, total: int, done: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            speed_estimate_period=60,
        )
        self._task = self._bar.add_task("training", total=total, completed=done, text="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, line: Mapping[str, Any]) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=line["step"], text=describe(line))

    def say(self, text: str) -> None:
        """Print it above the bar."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """'1:05' or '2:03:04'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""A run's folder: its files by name, who may write there, and what is dropped when it resumes.

config.json         the model as transformers reads it, and under "train" the settings
tokenizer.json      if there is one metrics.jsonl       a line per logged step loss.png
the curves samples.txt         text written at each validation model.safetensors   the weights, in
GPT-2's layout state.safetensors   everything that resuming needs: weights, optimizer, random state,
step
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

if sys.platform != "win32":
    import fcntl

from groundup.errors import CheckpointError, ConfigError
from groundup.files import StrPath, atomic_write, reason

# Those of `atomic_write` and, inside it, of safetensors.
_TEMPORARY: Final = re.compile(
    r"\.(config|tokenizer|metrics|loss|samples|model|state)\.[0-9a-f]{8}\.\w+|\.tmp\w{6}"
)
_HEADING: Final = re.compile(r"^=== step (\d+)\b.*$", re.MULTILINE)


class RunFolder:
    """The folder at `path`."""

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.tokenizer = self.path / "tokenizer.json"
        self.metrics = self.path / "metrics.jsonl"
        self.plot = self.path / "loss.png"
        self.samples = self.path / "samples.txt"
        self.weights = self.path / "model.safetensors"
        self.state = self.path / "state.safetensors"

    def check_free(self) -> None:
        """Raises ConfigError if anything lies at the path: a run never overwrites another."""
        try:
            if not self.path.exists():
                return
            if not self.path.is_dir():
                raise ConfigError(f"{self.path} is a file", hint="choose a folder with --out")
            if next(self.path.iterdir(), None) is None:
                return
        except OSError as error:
            raise ConfigError(f"cannot use {self.path}: {reason(error)}") from error
        if self.state.exists():
            raise ConfigError(
                f"{self.path} holds a run already",
                hint=f"continue it with --resume {self.path}, or choose another --out",
            )
        if self.config.exists():
            raise ConfigError(f"{self.path} holds a model", hint="choose another --out")
        raise ConfigError(f"{self.path} is not empty", hint="choose another --out")

    def create(self) -> None:
        """Make the folder. Raises CheckpointError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"cannot make {self.path}: {reason(error)}") from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training here; a lock that ends with the process.

        Only on POSIX, and on file systems that have locks. Raises ConfigError if another does.
        """
        if sys.platform == "win32":
            yield
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"another process is training in {self.path}", hint="choose another --out"
                ) from error
            except OSError:  # a network file system that has no locks
                pass
            yield
        finally:
            os.close(descriptor)

    def sweep(self) -> None:
        """Remove the temporary files of a run that was killed while it wrote. Only when alone."""
        for path in self.path.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    path.unlink()

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """One more line of `metrics.jsonl`. Raises CheckpointError."""
        self._append(self.metrics, json.dumps(line, allow_nan=False) + "\n")

    def append_sample(self, step: int, note: str, text: str) -> None:
        """One more sample under a heading. Raises CheckpointError."""
        self._append(self.samples, f"=== step {step} {note}\n{text}\n\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; one that was cut short by a crash is left out."""
        found = []
        for line in self._read(self.metrics).splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return [line for line in found if isinstance(line, dict) and type(line.get("step")) is int]

    def truncate(self, step: int) -> None:
        """Forget metrics and samples of later steps than `step`, which will be run again."""
        lines = [line for line in self.read_metrics() if line["step"] <= step]
        self._replace(self.metrics, "".join(json.dumps(line) + "\n" for line in lines))
        samples = self._read(self.samples)
        later = [m for m in _HEADING.finditer(samples) if int(m[1]) > step]
        if later:
            self._replace(self.samples, samples[: later[0].start()])

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {reason(error)}") from error

    def _append(self, path: Path, text: str) -> None:
        try:
            with path.open("a", encoding="utf-8", errors="replace", newline="\n") as file:
                file.write(text)
        except OSError as error:
            raise CheckpointError(f"cannot write {path}: {reason(error)}") from error

    def _replace(self, path: Path, text: str) -> None:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")

"""Going on with a run: which settings it keeps, and which may change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from groundup.errors import CheckpointError, ConfigError
from groundup.files import StrPath
from groundup.serialization import read_json
from groundup.suggest import did_you_mean
from groundup.train.config import TrainConfig, flag, from_record
from groundup.train.folder import RunFolder

# They change what is shown, saved or where it is computed, or let the run end later.
_FREE: Final = frozenset({
    "max_iters", "eval_interval", "eval_iters", "log_interval", "always_save_checkpoint",
    "sample_prompt", "sample_tokens", "device", "data", "out",
    "tracker", "compile",
})  # fmt: skip


def resumed_config(path: StrPath, changes: Mapping[str, object]) -> TrainConfig:
    """The settings of the run in `path`, with `changes`.

    Raises CheckpointError when there is no run that could go on, ConfigError for a change that
    would make it another run.
    """
    folder = RunFolder(path)
    if not folder.config.exists():
        hint = did_you_mean(folder.path.name, _neighbours(folder.path))
        raise CheckpointError(
            f"{folder.path} holds no run to resume", hint=hint or "begin one without --resume"
        )
    if not folder.state.exists():
        raise CheckpointError(
            f"{folder.path} holds no saved state", hint="begin again, in another --out"
        )
    record = read_json(folder.config).get("train")
    if not isinstance(record, dict):
        raise CheckpointError(f"{folder.config} holds no settings of a run")
    before = from_record(record, folder.config)
    after = before.changed(changes)
    for name in changes:
        if name not in _FREE and getattr(after, name) != getattr(before, name):
            raise ConfigError(
                f"a resumed run keeps its {flag(name)} {getattr(before, name)}, not "
                f"{getattr(after, name)}",
                hint="begin a new run with another --out",
            )
    return after.changed({"out": Path(path)})


def _neighbours(path: Path) -> list[str]:
    """The names of the runs that lie where `path` would."""
    return [state.parent.name for state in path.parent.glob(f"*/{RunFolder(path).state.name}")]

"""`groundup train`: a preset, changed by a TOML file, changed by flags; or a run to go on with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from groundup.cli.parameters import whole
from groundup.errors import ConfigError
from groundup.train.config import PRESETS, TrainConfig, preset, read_toml, types

_EXTRA_NAMES = {"out": ("--out", "--out-dir")}  # nanoGPT's name for it


def make_flags(*wanted: str) -> Any:
    """A class with settings of a run as flags, None where one was not given.

    `wanted` are groups of settings or single ones; all if there are none.
    """
    fields = []
    for field in dataclasses.fields(TrainConfig):
        if wanted and not {field.name, field.metadata["group"]} & {*wanted}:
            continue
        kind = types()[field.name]
        parameter = Parameter(
            name=_EXTRA_NAMES.get(field.name),
            group=field.metadata["group"],
            help=field.metadata["help"],
            consume_multiple=field.name == "data",
            negative=None if kind is bool else (),  # --bias has --no-bias
            converter=whole if kind is int else None,
        )
        fields.append((field.name, Annotated[kind | None, parameter], None))
    made = dataclasses.make_dataclass("Flags", fields, frozen=True)
    made.__module__ = (
        __name__  # cyclopts takes what comes from the module `types` for a plain value
    )
    made.__doc__ = "The settings that were given as flags."
    return made


if TYPE_CHECKING:
    Flags = Any
else:
    Flags = make_flags()


def train(
    name: Annotated[str | None, Parameter(name="PRESET")] = None,
    /,
    *,
    config: Path | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    flags: Annotated[Flags, Parameter(name="*")] = Flags(),  # noqa: B008 - it is frozen
) -> int:
    """Train a GPT on text and keep what it learns in a folder.

    Presets: tiny (the default), gpt-12m, shakespeare-char. Every setting has a flag, --n-layer or
    --n_layer. Ctrl-C saves and stops (exit code 130); --resume goes on as if nothing had happened.

    Parameters
    ----------
    name
        A preset; after --resume also the folder of a run.
    config
        A TOML file of settings, weaker than flags.
    resume
        Go on with the run in the folder, or in --out, or in runs/PRESET.
    """
    from groundup.train.loop import run

    changes: dict[str, object] = {} if config is None else read_toml(config)
    changes |= {k: v for k, v in dataclasses.asdict(flags).items() if v is not None}
    if flags.data == ():
        raise ConfigError("--data names no file")
    if not resume:
        return run(preset(name or "tiny").changed(changes))
    return run(_resumed(name, changes), resume=True)


def _resumed(name: str | None, changes: dict[str, object]) -> TrainConfig:
    """The settings of the run that is meant, with the changes that do not make it another."""
    from groundup.train.resume import resumed_config

    if name is None or name in PRESETS:
        folder = Path(str(changes.pop("out", Path("runs") / (name or "tiny"))))
    else:
        folder = Path(name)
        out = changes.pop("out", folder)
        if Path(str(out)).resolve() != folder.resolve():
            raise ConfigError(
                f"the run in {folder} goes on where it is, not in --out {out}",
                hint=f"copy {folder} first and resume the copy",
            )
    return resumed_config(folder, changes)

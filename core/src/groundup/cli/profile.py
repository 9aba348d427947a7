"""`groundup profile`: another command, with a table of where its time went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from groundup.cli.parameters import whole
from groundup.errors import ConfigError

_ALONE: Final = ("--device-time", "--no-device-time", "--help", "-h", "--version")


def profile(
    *command: Annotated[str, Parameter(name="COMMAND", allow_leading_hyphen=True)],
    out: Path | None = None,
    limit: Annotated[int, Parameter(converter=whole)] = 20,
    device_time: bool | None = None,
) -> int:
    """Run a command and print which ops and modules took its time.

    As in: groundup profile --out trace.json train tiny --max-iters 20. What stands before the
    command is for the profile, all that follows is for the command.

    Parameters
    ----------
    command
        Any command of groundup with its arguments.
    out
        Write a trace for ui.perfetto.dev or chrome://tracing to this file.
    limit
        How many ops and modules to list.
    device_time
        Time each launch on the device, and wait for it. By default where the device has timers.
    """
    from groundup.cli.app import build
    from groundup.profiler.profile import profile as recorded

    if not command:
        raise ConfigError("profile: which command?", hint="groundup profile train tiny")
    if limit < 0:
        raise ConfigError(f"--limit must not be negative, got {limit}")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ConfigError(f"--out {out} cannot be a file", hint="name one in a folder that exists")
    with recorded(device_time=device_time) as p:
        result = build()(list(command), exit_on_error=False, print_error=False)
    print(p.table(limit), end="")
    if out is not None:
        p.write_trace(out)
        print(f"trace: {out}; open it at https://ui.perfetto.dev")
    return result if isinstance(result, int) else 0


def mark_command(arguments: Sequence[str]) -> list[str]:
    """`profile --out FILE -- train ...`: the flags behind `train` are not those of `profile`."""
    found = list(arguments)
    if found[:1] != ["profile"]:
        return found
    at = 1
    while at < len(found) and found[at].startswith("-") and found[at] != "--":
        at += 1 if found[at] in _ALONE or "=" in found[at] else 2
    if at < len(found) and found[at] != "--":
        found.insert(at, "--")
    return found

"""The command line: `groundup COMMAND ...`.

Commands are thin and live in their own modules; what they need is imported when they run. Bad
input ends with one line on stderr, `error: ...`, and exit code 2. GROUNDUP_DEBUG=1 shows the
traceback instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from groundup._version import __version__
from groundup.backends.plugins import plugins
from groundup.errors import GroundupError
from groundup.files import reason

if TYPE_CHECKING:
    from cyclopts import App

OK: Final = 0
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it


def build() -> App:
    """The application with its own commands and those of plugins."""
    from cyclopts import App

    from groundup.cli import generate, graph, listings, new_backend, profile, train

    app = App(
        name="groundup",
        help="Train and run transformers on backends that are plugins.",
        version=__version__,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    app.command(train.train)
    app.command(generate.generate)
    app.command(profile.profile)
    app.command(graph.graph)
    app.command(listings.backends)
    app.command(listings.ops)
    app.command(new_backend.new_backend)
    _add_plugin_commands(app)
    return app


def _add_plugin_commands(app: App) -> None:
    """A plugin whose commands fail to load takes nobody's commands away; it is reported."""
    plugins().call("groundup_commands", app=app)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    from cyclopts import CycloptsError

    from groundup.cli.profile import mark_command

    debug = os.environ.get("GROUNDUP_DEBUG") == "1"
    try:
        result = build()(mark_command(_split(arguments)), exit_on_error=False, print_error=False)
        if sys.stdout is not None:  # as with `groundup ops >&-`
            sys.stdout.flush()
        return result if isinstance(result, int) else OK
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `groundup ops | head`: nobody reads on
        return OK
    except (GroundupError, CycloptsError, OSError, MemoryError) as error:
        if debug:
            raise
        return _refuse(_text(error))
    finally:
        _drop_unwritten()


def _drop_unwritten() -> None:
    """What stdout could not take must not be tried again, with a traceback, when Python ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _split(arguments: Sequence[str]) -> list[str]:
    """`--resume=RUN` as `--resume RUN`: a flag that may stand alone, and the run that it means."""
    split = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        split += [flag, value] if flag == "--resume" and equals else [argument]
    return split


def _text(error: Exception) -> str:
    from cyclopts import UnusedCliTokensError

    if isinstance(error, UnusedCliTokensError):
        text = "unexpected " + ", ".join(repr(token) for token in error.unused_tokens or ())
    elif isinstance(error, GroundupError):
        text = str(error)
    elif isinstance(error, OSError):  # a path that may not be looked at, a stdout that is full
        where = "standard output" if error.filename is None else error.filename
        text = f"cannot use {where}: {reason(error)}"
    elif isinstance(error, MemoryError):
        text = f"out of memory: {error}"
    else:
        text = str(error)
    return " ".join(text.split()).removesuffix(".")


def _refuse(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return BAD_INPUT


def main() -> None:
    """What the command `groundup` runs."""
    sys.exit(run(sys.argv[1:]))

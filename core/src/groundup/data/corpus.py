"""Text to train on: the one that comes with Python, or your own files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from groundup.errors import DataError
from groundup.files import StrPath, reason


def embedded_corpus() -> str:
    """The Python language reference as CPython ships it for `help()`: real English, no download.

    Its topics in the order of their names, with an empty line between two. The text belongs to
    the Python version that runs: about 465,000 characters in 3.11, 492,000 in 3.12 and 511,000 in
    3.13, so losses compare only within one version.

    Raises DataError on a Python that was packaged without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(
            "this Python was packaged without pydoc_data.topics, the embedded text",
            hint="train on a text file of your own",
        ) from error
    return "\n".join(topics[name] for name in sorted(topics))


def load_text(paths: Sequence[StrPath]) -> str:
    """The UTF-8 text of the files at `paths`, in that order, joined by a line break.

    As when Python opens a text file, Windows line ends become "\\n"; a byte order mark is
    dropped.

    Raises DataError when there is no path, and for a file that is missing, unreadable, empty or
    not UTF-8.
    """
    if not paths:
        raise DataError("no data files were given")
    return "\n".join(_read_text(Path(path)) for path in paths)


def _read_text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text: byte {error.object[error.start]:#04x}"
            f" at offset {error.start}",
            hint="save the file as UTF-8",
        ) from error
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text:
        raise DataError(f"{path} is empty")
    return text

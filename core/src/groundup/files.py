"""Writing files so that a reader never sees half of one.

Every writer of the project goes through `atomic_write`: the bytes go to a temporary file in the
same folder, reach the disk, and only then take the target's name. A crash, an interrupt or a full
disk leaves the target as it was.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groundup.errors import CheckpointError

StrPath = str | os.PathLike[str]


@contextmanager
def atomic_write(path: StrPath) -> Iterator[Path]:
    """Give the path of a temporary file to fill; it becomes `path` when the block ends well.

        with atomic_write("run/config.json") as temporary:
            temporary.write_text("{}")

    The temporary file keeps the target's suffix, for writers that go by it (matplotlib). A target
    that is a symbolic link stays one. When the block raises anything, the temporary file is
    removed and `path` is untouched.

    Raises CheckpointError naming `path` and the system's reason when the file cannot be written:
    a full disk, a missing folder, no permission.
    """
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        temporary.open("xb").close()
        # safetensors replaces the file by one that only its owner may read: keep the usual mode.
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        _flush_file(temporary)
        temporary.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def reason(error: OSError) -> str:
    """The system's words for `error`, without number and path: 'No such file or directory'."""
    return error.strerror or str(error)


def _flush_file(path: Path) -> None:
    with path.open("rb+") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable, where a folder can be opened (not on Windows)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

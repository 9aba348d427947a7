"""`groundup new-backend`: a package with a backend that works, to be made one's own."""

from __future__ import annotations

import re
import secrets
import shutil
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated, Final

from cyclopts import Parameter

from groundup._version import __version__
from groundup.backends.plugins import FIRST_PARTY
from groundup.errors import ConfigError
from groundup.files import reason

_NAME: Final = r"[a-z](?:[a-z0-9_]*[a-z0-9])?"
_LONGEST: Final = 40  # file systems stop at 255 bytes, and the name is a part of several
# `conformance` and `cpu_ref` are packages called groundup_... already.
RESERVED: Final = frozenset({*FIRST_PARTY, "null", "conformance", "cpu_ref"})
_PYTHON: Final = ">=3.11,<3.14"  # as the core itself; a test compares them

# Template -> where it goes in the new package; `{name}` is the backend's.
FILES: Final = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "LICENSE": "LICENSE",
    "__init__.py": "src/groundup_{name}/__init__.py",
    "backend.py": "src/groundup_{name}/backend.py",
    "device.py": "src/groundup_{name}/device.py",
    "kernels.py": "src/groundup_{name}/kernels.py",
    "waivers.toml": "src/groundup_{name}/waivers.toml",
    "test_backend.py": "tests/test_{name}.py",
}


def new_backend(
    name: Annotated[str, Parameter(name="NAME")],
    /,
    *,
    out: Path | None = None,
) -> None:
    """Write a package of a new backend: primitive ops in NumPy, all others composed.

    It installs, runs every op and trains as it is; its README says how to make it yours.

    Parameters
    ----------
    name
        The device's name: a-z, digits and _, such as "mygpu".
    out
        The folder to write, which must not exist; by default groundup-NAME.
    """
    folder = write_backend(name, out)
    distribution = _distribution(name)
    print(f"wrote {distribution} to {folder}: {len(FILES)} files")
    print(f'next: pip install -e "{folder}" && groundup ops --matrix')


def write_backend(name: str, out: Path | None = None) -> Path:
    """Write the package of a backend `name` and return its folder.

    Either all files are written or none. Raises ConfigError for a name that cannot be one or is
    taken, and for a folder that exists or cannot be written.
    """
    check_name(name)
    folder = Path(_distribution(name)) if out is None else out
    if folder.exists() or folder.is_symlink():
        raise ConfigError(f"{folder} exists already", hint="choose another folder with --out")
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for source, target in FILES.items():
            path = draft / target.format(name=name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_filled(source, name), encoding="utf-8")
        draft.rename(folder)
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {reason(error)}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def check_name(name: str) -> None:
    """Raises ConfigError unless a new backend may have this name."""
    if not re.fullmatch(_NAME, name) or "__" in name or len(name) > _LONGEST:
        raise ConfigError(
            f"{name!r} cannot be the name of a backend",
            hint=f"a-z, digits and single _ between them, a letter first, at most {_LONGEST}",
        )
    if name in RESERVED:
        raise ConfigError(f"the name {name!r} is taken by groundup itself", hint="choose another")


def _filled(source: str, name: str) -> str:
    """A template with the names of this backend put in."""
    template = resources.files("groundup.cli") / "templates" / "backend" / f"{source}.txt"
    major, minor = (int(part) for part in __version__.split(".")[:2])
    versions = f">={major}.{minor},<{major}.{minor + 1}"
    return Template(template.read_text(encoding="utf-8")).substitute(
        name=name,
        Class="".join(part.capitalize() for part in name.split("_")),
        package=f"groundup_{name}",
        distribution=_distribution(name),
        groundup=f"groundup{versions}",
        conformance=f"groundup-conformance{versions}",
        python=_PYTHON,
    )


def _distribution(name: str) -> str:
    return f"groundup-{name.replace('_', '-')}"

"""The backend contract changes only together with its version.

`api_signature.txt` records every public name of `backends/api.py` under its API_VERSION. After a
change, raise API_VERSION (the minor for an addition with a default, the major for anything else)
and run this test once with GROUNDUP_RECORD_API=1, which writes the record anew.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from groundup.backends import api

RECORD = Path(__file__).with_name("api_signature.txt")


def signature() -> str:
    lines = [f"API_VERSION {api.API_VERSION[0]}.{api.API_VERSION[1]}"]
    for name, value in sorted(vars(api).items()):
        if name.startswith("_") or name == "API_VERSION" or not _is_own(name, value):
            continue
        lines.append("")
        if inspect.isclass(value):
            lines += _described(value)
        else:
            lines.append(f"{name} = {value}")
    return "\n".join(lines) + "\n"


def _is_own(name: str, value: object) -> bool:
    """Whether it is the contract's: its classes, View, and the aliases of types that it names."""
    if inspect.isclass(value):
        return value is api.View or value.__module__ == api.__name__
    return name in ("Executable", "HostArray", "KernelFactory")


def _described(cls: type[Any]) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not object)
    yield f"class {cls.__name__}({bases})"
    if attrs.has(cls):
        yield from _fields(cls)
        hidden = {field.name for field in attrs.fields(cls)}
    else:
        hidden = {"__annotations__"}
        for name, kind in vars(cls).get("__annotations__", {}).items():
            default = f" = {vars(cls)[name]!r}" if _has_default(cls, name) else ""
            yield f"    {name}: {kind}{default}"
            hidden.add(name)
        slots = [name for name in vars(cls).get("__slots__", ()) if not name.startswith("_")]
        if slots:
            yield f"    attributes {', '.join(slots)}"
    written = not attrs.has(cls) and not getattr(cls, "_is_protocol", False)
    for name, member in sorted(vars(cls).items()):
        own = name == "__init__" and written
        public = not name.startswith("_") or own or name == "__call__"
        if name in hidden or not public or not inspect.isfunction(member):
            continue
        abstract = "abstract " if getattr(member, "__isabstractmethod__", False) else ""
        yield f"    {abstract}{name}{inspect.signature(member)}"


def _fields(cls: type[Any]) -> Iterator[str]:
    for field in attrs.fields(cls):
        default = "" if field.default is attrs.NOTHING else f" = {field.default!r}"
        yield f"    {field.name}: {field.type}{default}"


def _has_default(cls: type[Any], name: str) -> bool:
    """A slot is a class attribute too, but no default."""
    return name in vars(cls) and not inspect.ismemberdescriptor(vars(cls)[name])


def test_the_contract_is_the_recorded_one() -> None:
    current = signature()
    recorded = RECORD.read_text("utf-8") if RECORD.exists() else ""
    if current == recorded:
        return
    version = current.partition("\n")[0]
    assert recorded.partition("\n")[0] != version, (
        f"backends/api.py changed but {version} did not: raise it, then record "
        f"(see {Path(__file__).name})\n{_difference(recorded, current)}"
    )
    assert os.environ.get("GROUNDUP_RECORD_API") == "1", (
        "a new API_VERSION: run this test with GROUNDUP_RECORD_API=1 to record it"
    )
    RECORD.write_text(current, "utf-8")


def _difference(recorded: str, current: str) -> str:
    import difflib

    lines = difflib.unified_diff(recorded.splitlines(), current.splitlines(), lineterm="", n=0)
    return "\n".join(lines)


def test_the_record_names_what_a_backend_must_write() -> None:
    """Seven methods of a device, two of a backend, one of a kernel."""
    lines = [line.strip() for line in signature().splitlines()]
    abstract = [line.split("(")[0].split()[1] for line in lines if line.startswith("abstract ")]
    assert sorted(abstract) == sorted([
        "allocate", "write", "read", "kernel", "synchronize", "memory", "describe",
        "probe", "open", "bind",
    ])  # fmt: skip


def test_a_change_is_seen() -> None:
    """The record holds parameters, annotations, defaults and attributes."""
    text = signature()
    for part in (
        "    workspace: int = 0",
        "    priority: ClassVar[int]",
        "    abstract allocate(self, nbytes: 'int') -> 'Any'",
        "    dtypes: Mapping[DType, frozenset[str]]",
        "    memory: int | None = None",
    ):
        assert part in text, text

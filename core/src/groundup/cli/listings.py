"""`groundup backends` and `groundup ops`: what is there, and how it is done where."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import attrs
from cyclopts import Parameter

if TYPE_CHECKING:
    from groundup.backends.installed import BackendEntry
    from groundup.support import OpSupport


def backends(*, as_json: Annotated[bool, Parameter(name="--json", negative=())] = False) -> None:
    """List the installed backends: available or why not, and how to fix it.

    Parameters
    ----------
    as_json
        Print a JSON array: name, available, reason, fix, devices.
    """
    from groundup.backends.installed import backends as installed

    entries = [_backend(name, entry) for name, entry in sorted(installed().items())]
    if as_json:
        _print_json(entries)
        return
    for entry in entries:
        if entry["available"]:
            print(f"{entry['name']}: available: {', '.join(entry['devices'])}")
        else:
            print(f"{entry['name']}: not available: {entry['reason']}")
            print(f"    fix: {entry['fix']}")
    _print_problems()


def _backend(name: str, entry: BackendEntry) -> dict[str, Any]:
    from groundup.backends.api import Available

    answer = entry.probe()
    if isinstance(answer, Available):
        listed = [f"{name}:{index} ({text})" for index, text in enumerate(answer.devices)]
        return {"name": name, "available": True, "reason": None, "fix": None, "devices": listed}
    reason, fix = answer.reason, answer.fix
    return {"name": name, "available": False, "reason": reason, "fix": fix, "devices": []}


def _print_problems() -> None:
    from groundup.backends.installed import problems

    found = problems()
    if found:
        print("problems with plugins:")
    for problem in found:
        print(f"    {problem}")


def ops(
    *,
    matrix: Annotated[bool, Parameter(negative=())] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """List all ops by family; with --matrix, how each backend runs them.

    Parameters
    ----------
    matrix
        One line per op: native, composed or missing on each available backend.
    as_json
        Print a JSON array: op, family, primitive, backends, providers (of kernels that another
        package adds to a backend).
    """
    from groundup import support

    rows = support.matrix()
    if as_json:
        _print_json([attrs.asdict(row) for row in rows])
    elif matrix:
        _print_matrix(rows)
    else:
        for family, members in itertools.groupby(rows, lambda row: row.family):
            print(f"{family}: {' '.join(row.op for row in members)}")


def _print_matrix(rows: Sequence[OpSupport]) -> None:
    names = list(rows[0].backends)
    op_width = max(len(row.op) for row in rows)
    family_width = max(len(row.family) for row in rows)
    print(f"{'op':{op_width}}  {'family':{family_width}}  " + "  ".join(f"{n:8}" for n in names))
    for row in rows:
        cells = "  ".join(f"{row.backends[name]:8}" for name in names)
        providers = ", ".join(f"{name} by {who}" for name, who in row.providers.items())
        print(f"{row.op:{op_width}}  {row.family:{family_width}}  {cells}  {providers}".rstrip())


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))

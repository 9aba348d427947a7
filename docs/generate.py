"""Writes the generated pages of docs/: `python docs/generate.py`. A test fails when they are
stale.
"""

from __future__ import annotations

from pathlib import Path

from groundup.backends.devices import device_for
from groundup.ops import REGISTRY
from groundup.ops.op import has
from groundup.support import OpSupport, matrix

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py from the registry. Do not edit. -->"


def ops_page() -> str:
    """One table per family: the op, what it computes, its parameters, where it is native."""
    rows = matrix({"cpu": device_for("cpu")})
    lines = ["# The ops", "", NOTE, ""]
    lines += [
        f"{len(rows)} ops. A composite runs on any backend, by its composition in simpler ops."
    ]
    for family in dict.fromkeys(row.family for row in rows):
        lines += ["", f"## {family}", "", "| op | formula | parameters | kind | cpu |"]
        lines += ["|---|---|---|---|---|"]
        lines += [_line(row) for row in rows if row.family == family]
    return "\n".join(lines) + "\n"


def _line(row: OpSupport) -> str:
    op = REGISTRY[row.op]
    formula = " ".join((op.__doc__ or "").split("\n\n")[0].split()).replace("|", "\\|")
    kind = "view" if has(op, "view") else "primitive" if row.primitive else "composite"
    cells = [f"`{row.op}`", formula, ", ".join(op.fields), kind, row.backends["cpu"]]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    (DOCS / "ops.md").write_text(ops_page())

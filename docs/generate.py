"""Writes the generated pages of docs/: `python docs/generate.py`. A test fails when they are
stale.
"""

from __future__ import annotations

from pathlib import Path

from groundup.ops import REGISTRY
from groundup.ops.op import has
from groundup.support import matrix

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py from the registry. Do not edit. -->"


def ops_page() -> str:
    """One table per family: the op, what it computes, its parameters, where it is native."""
    backends = ("cpu",)
    support = {row.op: row for row in matrix(backends)}
    lines = ["# The ops", "", NOTE, ""]
    lines += [
        f"{len(REGISTRY)} ops. A composite op runs anywhere by its composition in simpler ones."
    ]
    for family in dict.fromkeys(cls.family for cls in REGISTRY.values()):
        lines += ["", f"## {family}", "", "| op | formula | parameters | kind | cpu |"]
        lines += ["|---|---|---|---|---|"]
        for name, cls in sorted(REGISTRY.items()):
            if cls.family != family:
                continue
            formula = " ".join((cls.__doc__ or "").split("\n\n")[0].split()).replace("|", "\\|")
            kind = (
                "view"
                if has(cls, "view")
                else "primitive"
                if not has(cls, "compose")
                else "composite"
            )
            cells = [
                f"`{name}`",
                formula,
                ", ".join(cls.fields),
                kind,
                support[name].backends["cpu"],
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (DOCS / "ops.md").write_text(ops_page())

"""A program's picture as a page: figures, the picture, and the listing to unfold."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from groundup.errors import ConfigError
from groundup.files import atomic_write
from groundup.program.drawing.sheet import Sheet
from groundup.program.drawing.svg import picture

_STYLE: Final = """
body { font: 14px system-ui, sans-serif; color: #1f2937; margin: 24px auto; max-width: 1240px }
pre { line-height: 1.35; overflow-x: auto } summary { cursor: pointer; margin: 8px 0 }
svg { max-width: 100%; height: auto }
"""
_SCRIPT: Final = """
const edges = new Map();  // line -> its curves
for (const path of document.querySelectorAll(".edge"))
  for (const end of path.dataset.ends.split(" "))
    edges.set(end, [...(edges.get(end) ?? []), path]);
for (const row of document.querySelectorAll(".row"))
  for (const [event, lit] of [["pointerenter", true], ["pointerleave", false]])
    row.addEventListener(event, () => {
      for (const path of edges.get(row.id.slice(1)) ?? []) path.classList.toggle("lit", lit);
    });
"""


def page(sheets: Sequence[Sheet], figures: str) -> str:
    """HTML that needs nothing else: pointing at a line lights up where its values come from and go.

    `figures` is a text of several lines, for the top.
    """
    title = escape(sheets[0].title) if sheets else "a program"
    listings = "\n".join(
        f"<details><summary>{escape(sheet.title)}: the listing</summary>"
        f"<pre>{escape(str(sheet.program))}</pre></details>"
        for sheet in sheets
    )
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n<pre>{escape(figures)}</pre>\n{listings}\n"
        f"{picture(sheets)}<script>{_SCRIPT}</script></html>\n"
    )


def check_path(path: Path) -> None:
    """Raises ConfigError for a picture that could not be written to `path`."""
    if path.suffix.lower() not in (".svg", ".html"):
        raise ConfigError(f"--out {path}: a picture is .svg or .html")
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"--out {path} cannot be a file", hint="name one in a folder that exists")


def write(path: Path, sheets: Sequence[Sheet], figures: str) -> None:
    """Write a picture, or a page, by the suffix of `path`. Raises ConfigError, CheckpointError."""
    check_path(path)
    text = picture(sheets) if path.suffix.lower() == ".svg" else page(sheets, figures)
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8")

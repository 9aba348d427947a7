"""How the command line reads values, where cyclopts reads them otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cyclopts import Token


def whole(kind: Any, tokens: Sequence[Token]) -> int:
    """An integer as `int` reads it; cyclopts would round 2.5. Raises ValueError."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'unable to convert "{text}" into int') from None

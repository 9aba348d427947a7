"""Amounts as people write them: 1.23 MB, 80GB, 24GiB."""

from __future__ import annotations

import re
from typing import Final

from groundup.errors import ConfigError

_POWERS: Final = ("", "k", "M", "G", "T", "P")
_SIZES: Final = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40,
}  # fmt: skip


def scaled(amount: float) -> str:
    """1234567 as "1.23 M"."""
    power = 0
    while amount >= 999.5 and power < len(_POWERS) - 1:
        amount /= 1000
        power += 1
    return f"{amount:.3g} {_POWERS[power]}"


def in_bytes(amount: float) -> str:
    """1234567 as "1.23 MB"."""
    return f"{scaled(amount)}B"


def parse_size(text: str, what: str) -> int:
    """Bytes of "80GB", "24GiB" or a plain number. Raises ConfigError that begins with `what`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip(), re.ASCII)
    if match is None or match[2].upper() not in _SIZES:
        raise ConfigError(f"{what}: {text!r} is no size", hint='write it like "80GB" or "24GiB"')
    return int(float(match[1]) * _SIZES[match[2].upper()])

"""Amounts as text, and back."""

from __future__ import annotations

import pytest

from groundup.errors import ConfigError
from groundup.units import in_bytes, parse_size, scaled


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 "), (999, "999 "), (999.7, "1 k"), (1234567, "1.23 M"), (5e18, "5e+03 P")],
)
def test_amounts(amount: float, text: str) -> None:
    assert scaled(amount) == text
    assert in_bytes(amount) == f"{text}B"


def test_sizes_are_read_as_people_write_them() -> None:
    assert parse_size(" 8GiB ", "--memory") == 8 << 30
    assert parse_size("1.5 kb", "--memory") == 1500
    with pytest.raises(ConfigError, match=r"^--memory: '8 apples' is no size"):
        parse_size("8 apples", "--memory")

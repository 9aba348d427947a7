"""Waivers: what a file may say, and that they are strict."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

import groundup_cpu_ref.backend
from groundup.errors import ConfigError
from groundup_conformance.waivers import Waiver, Waivers, from_file, of_backend, parse

TODAY = datetime.date(2026, 6, 1)
GOOD = """
[[waiver]]
id = "conv2d[float16,*]"
reason = "the driver rounds towards zero"
expires = 2027-01-01
profile = "wgsl"
"""


def waiver(**changes: object) -> Waiver:
    fields = {"id": "exp[*]", "reason": "why", "expires": datetime.date(2026, 6, 1), **changes}
    return Waiver(**fields)  # type: ignore[arg-type]


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "waivers.toml"
    path.write_text(GOOD)
    [found] = from_file(path)
    assert found.applies("conv2d[float16,plain,given,forward]")
    assert not found.applies("conv2d[float32,plain,given,forward]")
    assert found.expires == datetime.date(2027, 1, 1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = [", "Invalid"),
        ("other = 1", "only"),
        ("[[waiver]]\nid = 'a'", "reason and expires missing"),
        (GOOD + "because = 'x'", "unknown key 'because'"),
        (GOOD.replace("2027-01-01", "'soon'"), "expires must be a date"),
        (GOOD.replace("2027-01-01", "2027-01-01T00:00:00"), "expires must be a date"),
        (GOOD.replace('"the driver rounds towards zero"', '""'), "reason must be a str"),
    ],
)
def test_a_file_that_is_not_in_order(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match="here") as caught:
        parse(text, "here")
    assert complaint in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read waivers"):
        from_file(tmp_path / "none.toml")


def test_the_last_day_counts() -> None:
    assert Waivers([waiver()], "ieee", TODAY).find("exp[a]") is not None
    late = Waivers([waiver()], "ieee", TODAY + datetime.timedelta(days=1))
    assert late.find("exp[a]") is None
    assert "expired on 2026-06-01" in late.complaints(complete=False)[0]


def test_a_waiver_of_another_profile_is_none() -> None:
    assert Waivers([waiver(profile="wgsl")], "ieee", TODAY).find("exp[a]") is None


def test_a_waiver_that_fits_no_case_is_stale_in_a_whole_run() -> None:
    found = Waivers([waiver()], "ieee", TODAY)
    assert found.complaints(complete=False) == []
    assert found.complaints(complete=True) == ["the waiver of exp[*] fits no case"]
    found.find("exp[a]")
    assert found.complaints(complete=True) == []


def test_the_cpu_backend_has_no_waivers() -> None:
    assert of_backend(groundup_cpu_ref.backend.CpuBackend()) == []

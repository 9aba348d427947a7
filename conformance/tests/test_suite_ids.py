"""Names of cases, and patterns of them."""

from __future__ import annotations

import pytest

from groundup.errors import ConfigError
from groundup_conformance.ids import CaseId, matches, may_be_of, parse

NAME = "einsum[float32,ij,jk->ik,given,forward]"


def test_a_name_is_read_back() -> None:
    name = parse(NAME)
    assert name == CaseId("einsum", "float32", "ij,jk->ik", "given", "forward")
    assert str(name) == NAME


@pytest.mark.parametrize("text", ["softmax", "softmax[float32]", "[a,b,c,d]", "a[b,c,d]"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ConfigError, match="names no case"):
        parse(text)


def test_the_seed_is_that_of_the_name() -> None:
    assert parse(NAME).seed == parse(NAME).seed != parse(NAME.replace("32", "16")).seed


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        (NAME, True),
        ("einsum[float32,*]", True),
        ("einsum[*,given,forward]", True),
        ("*", True),
        ("softmax[*] *,forward]", True),
        ("*,gradient]", False),
        ("softmax einsum[*]", True),
        ("einsum", False),
        ("e?nsum[float32,*,forward]", True),
        ("einsum[float16,*]", False),
        ("einsum[float3[12],*]", False),  # brackets are themselves
        ("ein.um[*]", False),
    ],
)
def test_patterns(pattern: str, fits: bool) -> None:
    assert matches(NAME, pattern) is fits


def test_alternatives_of_ops() -> None:
    assert matches("conv2d", "matmul,conv*")
    assert matches("conv2d", "matmul conv2d")
    assert not matches("conv2d", "matmul,conv")


def test_which_ops_a_pattern_is_about() -> None:
    assert may_be_of("soft*[float32,*]", "softmax")
    assert may_be_of("softmax[float32,*]", "softmax")
    assert not may_be_of("softmax[float32,*]", "log_softmax")
    assert may_be_of("*,forward]", "anything")

"""Scorecards: their form, what is made of them, what got worse between two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from groundup.errors import ConfigError
from groundup.ops.op import REGISTRY
from groundup_conformance import compare, scorecard
from groundup_conformance.report import badge, html, markdown, table, terminal
from groundup_conformance.scorecard import Card, Result, Run


def card(*results: Result, **changes: Any) -> Card:
    fields: dict[str, Any] = {
        "backend": "cpu", "distribution": "groundup-cpu-ref 0.1.0", "device": "cpu: <NumPy>",
        "profile": "ieee", "level": 2, "tracks": (), "selection": {},
        "families": {"exp": "elementwise", "sum": "reduction"}, "ops": "4f2a", **changes,
    }  # fmt: skip
    return scorecard.make(Run(**fields), results)


def result(name: str, status: Any = "passed", level: int | None = 1, **more: Any) -> Result:
    return Result(f"{name},given,forward]", status, level, **more)


GOOD = (
    result("memory[float32,bytes", level=0),
    result("exp[float32,a", ratio=0.25, ulp=1.5, seconds=0.01),
    result("sum[float16,b", ratio=0.5),
    result("sum[float32,c", level=2),
)


def misfit(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> str | None:
    """The part of JSON Schema that ours uses."""
    kinds = {
        "object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
        "null": type(None),
    }  # fmt: skip
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(isinstance(value, kinds[name]) for name in names):
        return f"{value!r} is no {names}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{value!r} is none of {schema['enum']}"
    if isinstance(value, dict):
        missing = set(schema.get("required", ())) - set(value)
        if missing:
            return f"lacks {missing}"
        for key, part in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if not isinstance(inner, dict):
                return f"unknown {key}"
            found = misfit(part, inner, root)
            if found:
                return f"{key}: {found}"
    if isinstance(value, list):
        return next((found for x in value if (found := misfit(x, schema["items"], root))), None)
    return None


def test_a_card_has_the_form_of_its_schema(tmp_path: Path) -> None:
    made = card(*GOOD, result("exp[float32,d", "failed", ratio=float("inf"), reason="why"))
    scorecard.write(made, tmp_path / "card.json")
    text = (tmp_path / "card.json").read_text()
    assert misfit(json.loads(text), scorecard.schema(), scorecard.schema()) is None
    assert scorecard.load(tmp_path / "card.json") == made == json.loads(text)
    assert made["totals"] == {
        "passed": 4, "failed": 1, "waived": 0, "blocked": 0, "unsupported": 0,
    }  # fmt: skip
    [failed] = [row for row in made["cases"] if row["status"] == "failed"]
    assert failed["ratio"] is None  # JSON has no infinity
    assert set(made["cases"][0]) >= {"id", "status", "ratio", "ulp", "seconds"}


def test_the_schema_refuses() -> None:
    made = card(*GOOD)
    for key in made:
        assert misfit({k: v for k, v in made.items() if k != key}, scorecard.schema(), {})
    assert misfit({**made, "more": 1}, scorecard.schema(), scorecard.schema())
    made["cases"][0]["status"] = "fine"
    assert misfit(made, scorecard.schema(), scorecard.schema())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("{", "not JSON"), ("[]", "no JSON object"), ('{"schema": 2}', "schema is 2"),
     ('{"schema": 1}', "lacks")],
)  # fmt: skip
def test_what_is_no_card(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        scorecard.load(path)


def test_a_missing_card(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        scorecard.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("last", "level"),
    [
        (result("sum[float32,z", "passed", 2), 2),
        (result("sum[float32,z", "unsupported", 2), 2),
        (result("sum[float32,z", "failed", 2), 1),
        (result("sum[float32,z", "waived", 2), 1),
        (result("sum[float32,z", "blocked", 1), 0),
        (result("sum[float32,z", "failed", 0), None),
    ],
)
def test_the_level_that_is_reached(last: Result, level: int | None) -> None:
    assert scorecard.reached(card(*GOOD, last)) == level


def test_a_part_of_the_suite_reaches_no_level() -> None:
    assert scorecard.reached(card(*GOOD, selection={"ops": "exp"})) is None


def test_the_fingerprint_tells_registries_apart() -> None:
    every = scorecard.fingerprint(REGISTRY)
    without = {name: op for name, op in REGISTRY.items() if name != "exp"}
    assert every == scorecard.fingerprint(dict(reversed(REGISTRY.items())))
    assert every != scorecard.fingerprint(without)


def test_the_views_show_what_the_card_holds() -> None:
    made = card(*GOOD, result("exp[float16,d", "failed", ratio=7.5, reason="<tail>"))
    shown = terminal.render(made)
    assert "FAILED exp[float16,d,given,forward] ratio 7.5: <tail>" in shown
    assert "level 0 is reached, not the one asked for" in shown
    dtypes, rows = table.rows(made)
    assert dtypes == ["float32", "float16"]
    assert [row.family for row in rows] == ["elementwise", "memory", "reduction"]
    assert str(rows[0].cells["float16"]) == "0/1 7.5!"
    page = html.render(made)
    assert "&lt;tail&gt;" in page
    assert "<tail>" not in page
    assert "cpu: &lt;NumPy&gt;" in page
    assert "| elementwise | 1/1 0.25 | 0/1 7.5! |" in markdown.render(made)


def test_the_badge_says_the_level() -> None:
    made = card(*GOOD)
    assert badge.text(made) == "L2 · float32 float16 · ieee · ops 4f2a · 0 waivers"
    root = ElementTree.fromstring(badge.render(made))
    assert root.tag.endswith("svg")
    assert "no level" in badge.text(card(result("exp[float32,a", "failed", 0)))


def test_views_of_an_empty_card() -> None:
    made = card(problems=["no case is selected"])
    assert "PROBLEM no case is selected" in terminal.render(made)
    assert "no case is selected" in html.render(made)
    assert "no level is reached" in markdown.render(made) or "tracks only" in markdown.render(made)


def test_what_got_worse() -> None:
    old = card(
        result("exp[float32,a", ratio=0.1), result("exp[float32,b", ratio=0.1),
        result("exp[float32,c", ratio=0.001), result("exp[float32,d"), result("exp[float32,e"),
        result("exp[float32,f", "failed"),
    )  # fmt: skip
    new = card(
        result("exp[float32,a", ratio=0.39), result("exp[float32,b", ratio=0.41),
        result("exp[float32,c", ratio=0.15), result("exp[float32,d", "waived"),
        result("exp[float32,f"), result("exp[float32,g"),
    )  # fmt: skip
    found = {str(change).split(",")[1] for change in compare.worse(old, new)}
    assert found == {"b", "d", "e"}  # an error that grew fourfold, a waiver, a case that is gone
    assert {c.id.split(",")[1] for c in compare.worse(old, new, ratchet=False)} == {"d", "e"}
    assert [c.id.split(",")[1] for c in compare.better(old, new)] == ["f"]
    assert compare.worse(old, old) == []


def test_cases_that_a_smaller_run_leaves_out_are_not_gone() -> None:
    old = card(*GOOD)
    assert compare.worse(old, card(GOOD[0], selection={"ops": "memory"})) == []
    assert compare.worse(old, card(GOOD[0], level=0)) == []
    assert len(compare.worse(old, card(GOOD[0]))) == 3


def test_cards_of_different_things() -> None:
    found = compare.differences(card(), card(device="cuda:0", profile="wgsl"))
    assert found == ["device: cpu: <NumPy> and cuda:0", "profile: ieee and wgsl"]

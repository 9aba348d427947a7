"""`groundup conformance mutate`: the changes, the processes, and a small campaign."""

from __future__ import annotations

import ast
import json
import os
import signal
from pathlib import Path

import pytest

from groundup.cli.app import run
from groundup_conformance.selftest.mutation import campaign, living
from groundup_conformance.selftest.mutation.operators import mutants, mutated


def changes(source: str) -> set[str]:
    return {f"{m.kind}: {m.before} -> {m.after}" for m in mutants(source, "f.py")}


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("y = a + b", {"operator: a + b -> a - b"}),
        ("y = a * b", {"operator: a * b -> a / b"}),
        ("y = a // b", {"operator: a // b -> a * b"}),
        ("y += x", {"operator: y += x -> y -= x"}),
        ("y = a < b", {"comparison: a < b -> a <= b"}),
        ("y = a != b", {"comparison: a != b -> a == b"}),
        ("y = a is not b", {"comparison: a is not b -> a is b"}),
        ("y = a and b", {"and, or: a and b -> a or b"}),
        ("y = x[-1]", {"axis: -1 -> -0"}),
        ("y = f(axis=0)", {"axis: axis=0 -> axis=-1", "constant: 0 -> 1"}),
        ("y = -x", {"sign: -x -> +x"}),
        ("y = -3", {"constant: -3 -> -2"}),
        ("y = zip(a, b, strict=True)", set()),
        ("y = 0.5", {"constant: 0.5 -> 1.5"}),
        ("y = f(keepdims=True)", {"constant: True -> False"}),
        ("y = a if c else b", {"condition: a if c else b -> a if not c else b"}),
        (
            "def f():\n    if c:\n        g()",
            {"condition: c -> not c", "statement: g() -> (dropped)"},
        ),
        ("def f():\n    x[i] = y", {"statement: x[i] = y -> (dropped)"}),
        ("def f():\n    y = x", set()),  # without it, f could not even run
        ('def f(n: "1 + 1" = 2) -> "a < b":\n    """1 + 1."""', {"constant: 2 -> 3"}),
        ('@native("f", exact=True)\ndef f(): pass', {"constant: True -> False"}),
        ("@attrs.frozen(eq=False)\nclass A: pass", set()),
        ("import a\nx: int", set()),
    ],
)
def test_what_is_changed(source: str, wanted: set[str]) -> None:
    assert changes(source) == wanted


def test_a_mutant_is_changed_in_one_place() -> None:
    source = "def f(a, b):\n    a[0] = b + 1\n    return a - b\n"
    found = mutants(source, "f.py")
    texts = [ast.unparse(mutated(source, m.number)) for m in found]
    assert texts == [
        "def f(a, b):\n    pass\n    return a - b",
        "def f(a, b):\n    a[1] = b + 1\n    return a - b",
        "def f(a, b):\n    a[0] = b - 1\n    return a - b",
        "def f(a, b):\n    a[0] = b + 2\n    return a - b",
        "def f(a, b):\n    a[0] = b + 1\n    return a + b",
    ]
    assert [(m.line, m.where) for m in found] == [(2, "f")] * 4 + [(3, "f")]
    assert str(found[0]) == "f.py:2 in f, statement: a[0] = b + 1 -> (dropped)"


def test_lives_end() -> None:
    def endless() -> str:
        while True:
            pass

    def crash() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return "never"

    ends = []
    for live, patience in ((lambda: "done", 60.0), (endless, 0.2), (crash, 60.0)):
        life = living.begin(live, patience)
        assert living.wait([life]) == [life]
        ends.append(life.end())
    assert ends == ["done", "timeout", "crash"]


def test_a_campaign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mutants.json"
    arguments = ["--kernels", "assembly.repeat", "--equal", "--json", str(path)]
    assert run(["conformance", "mutate", *arguments]) == 0
    assert "100.0% of those that compute something else are killed" in capsys.readouterr().out
    found = json.loads(path.read_text())
    killed = [fate for fate in found["mutants"] if fate["killed_by"]]
    assert (found["planted"], found["killed"]) == (len(killed) + 1, len(killed))
    assert (found["explained"], found["left_out"], found["unclean"]) == (1, 0, [])
    assert len(killed) > 4
    for fate in killed:
        assert fate["killed_by"].startswith(("repeat[", "import"))
        assert fate["mutant"]["file"] == "kernels/assembly.py"
    from groundup_cpu_ref.kernels import assembly
    from groundup_cpu_ref.native import NATIVE

    assert NATIVE["repeat"].function is assembly.repeat  # here nothing has changed


def test_a_draw_leaves_out_what_computes_the_same() -> None:
    loaded = dict(campaign.modules())
    every, none = campaign._chosen(campaign.Request("assembly.repeat", equal=True), loaded)
    some, left_out = campaign._chosen(campaign.Request("assembly.repeat", 3, 1), loaded)
    assert (none, left_out, len(some)) == (0, 1, 3)
    assert set(some) < set(every)
    assert not any(mutant.key in campaign.known() for mutant in some)


def test_a_survivor_is_shown_and_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("groundup_conformance.selftest.questions.Question.ask", lambda *_: None)
    assert run(["conformance", "mutate", "--kernels", "assembly.repeat", "--limit", "2"]) == 1
    out = capsys.readouterr().out
    assert "SURVIVES kernels/assembly.py:" in out
    assert "0 of 2 mutants killed" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--kernels", "nosuch"], "no mutant of a kernel that fits 'nosuch'"),
        (["--limit", "0"], "limit must be at least 1"),
    ],
)
def test_bad_requests(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["conformance", "mutate", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_explanations_are_of_mutants_that_exist() -> None:
    """Kernels change: a few entries may be behind, most may not."""
    found = set()
    for file, module in campaign.modules():
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        found |= {mutant.key for mutant in mutants(source, file)}
    known = set(campaign.known())
    assert len(known - found) <= len(known) / 20, known - found

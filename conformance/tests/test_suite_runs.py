"""Whole runs of the suite, in processes of their own, on a cpu backend that is right or broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

# A pytest plugin that breaks the cpu backend before the suite runs.
PLANTED = """
import attrs
import numpy as np
import pytest
from groundup_cpu_ref import kernels
from groundup_cpu_ref.device import CpuDevice
from groundup_cpu_ref.native import NATIVE, Native

kernels.load()

def plant(name, function):
    NATIVE[name] = Native(function, NATIVE[name].params, False, False)

"""
COARSE = "plant('exp', lambda op, x, out: np.multiply(np.exp(x), 1.001, out))"
WAIVER = """
[[waiver]]
id = "exp[float32,matrix,given,forward]"
reason = "known to be coarse"
expires = {day}
"""
ENVIRONMENT = {"NO_COLOR": "1", "GROUNDUP_PLUGINS": "cpu"}  # others take time to be looked at
EXP = ("--ops", "exp", "--dtype", "float32", "--level", "1")


@attrs.frozen
class Outcome:
    """How a run ended: exit code, what it printed, its scorecard."""

    code: int
    text: str
    card: dict[str, Any]

    def statuses(self) -> dict[str, str]:
        return {case["id"]: case["status"] for case in self.card["cases"]}

    def reason(self, case: str) -> str:
        [reason] = [c.get("reason", "") for c in self.card["cases"] if c["id"] == case]
        return str(reason)


def run_pytest(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """pytest in a folder without a configuration."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep), **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def run(folder: Path, *options: str | Path, plant: str = "") -> Outcome:
    """The suite on the cpu backend, after the statements of `plant`."""
    (folder / "planted.py").write_text(PLANTED + plant)
    card = folder / "card.json"
    done = run_pytest(
        folder, "--pyargs", "groundup_conformance.suite", "--backend", "cpu", "--json", card,
        "-p", "planted", *options,
    )  # fmt: skip
    found = json.loads(card.read_text()) if card.exists() else {}
    return Outcome(done.returncode, done.stdout + done.stderr, found)


def test_a_right_backend_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "--ops", "exp", "--html", tmp_path / "card.html")
    assert done.code == 0, done.text
    assert set(done.statuses().values()) == {"passed"}
    assert "0 failed" in done.text
    assert "no level is claimed" in done.text
    assert (tmp_path / "card.html").read_text().startswith("<!doctype html>")
    variants = {name.rpartition(",")[2] for name in done.statuses()}
    assert {"forward]", "gradient]", "twice]"} <= variants


def test_several_processes_make_the_same_scorecard(tmp_path: Path) -> None:
    """What is not run, because the device cannot or a waiver says so, is in it as well."""
    pytest.importorskip("xdist")
    plant = f"""
{COARSE}
describe = CpuDevice.describe
def fewer(self):
    info = describe(self)
    kept = {{k: v for k, v in info.dtypes.items() if k.name != "float16"}}
    return attrs.evolve(info, dtypes=kept)
CpuDevice.describe = fewer
"""
    file = tmp_path / "waivers.toml"
    file.write_text(WAIVER.format(day="9999-01-01").replace("matrix,given,forward", "*"))
    options = ("--ops", "exp", "--level", "1", "--waivers", file)
    alone, together = (run(tmp_path, *options, *more, plant=plant) for more in ((), ("-n", "2")))
    assert alone.statuses() == together.statuses()
    assert {"passed", "unsupported", "waived"} <= set(alone.statuses().values())
    assert (alone.code, alone.card["problems"]) == (together.code, together.card["problems"])


def test_a_wrong_kernel_fails_with_all_that_is_known(tmp_path: Path) -> None:
    done = run(tmp_path, *EXP, plant=COARSE)
    assert done.code == 1
    assert done.statuses()["exp[float32,matrix,given,forward]"] == "failed"
    for text in (
        "exp[float32,matrix,given,forward] on cpu, profile ieee", "worst at", "wanted", "ratio",
        "guess: every wrong element is 1.001 times",
        "groundup conformance repro 'exp[float32,matrix,given,forward]' --device cpu",
    ):  # fmt: skip
        assert text in done.text, text


def test_a_missing_op_fails(tmp_path: Path) -> None:
    done = run(tmp_path, *EXP, plant="del NATIVE['exp']")
    assert done.code == 1
    assert done.statuses()["exp[float32,matrix,given,forward]"] == "failed"
    assert "UnsupportedOp" in done.reason("exp[float32,matrix,given,forward]")


def test_an_op_without_reference_blocks_its_cases(tmp_path: Path) -> None:
    plant = "import groundup_conformance.oracle.evaluation as e\ne.NUMBERS.pop('exp')"
    done = run(tmp_path, *EXP, plant=plant)
    assert done.code == 1
    assert done.statuses()["exp[-,reference,-,oracle]"] == "failed"
    assert done.statuses()["exp[float32,matrix,given,forward]"] == "blocked"


def test_broken_memory_blocks_what_needs_it(tmp_path: Path) -> None:
    plant = """
read = CpuDevice.read
def broken(self, view):
    found = read(self, view)
    return found[::-1].copy() if found.dtype == np.float16 and found.size == 1023 else found
CpuDevice.read = broken
"""
    done = run(tmp_path, "--ops", "memory,exp", "--level", "1", plant=plant)
    assert done.code == 1
    failed = {name for name, status in done.statuses().items() if status == "failed"}
    assert failed == {"memory[float16,bytes1023,given,round-trip]"}
    assert done.statuses()["exp[float16,matrix,given,forward]"] == "blocked"
    assert done.statuses()["exp[float32,matrix,given,forward]"] == "passed"
    assert "memory[float16,bytes1023" in done.reason("exp[float16,matrix,given,forward]")


def test_a_broken_layout_blocks_the_cases_in_it(tmp_path: Path) -> None:
    plant = """
read = CpuDevice.read
def broken(self, view):
    found = read(self, view)
    return -found if view.layout.strides[-1:] == (2,) and found.dtype == np.float32 else found
CpuDevice.read = broken
"""
    done = run(tmp_path, "--ops", "memory,exp", "--level", "1", plant=plant)
    statuses = done.statuses()
    assert statuses["memory[float32,block,spaced,read]"] == "failed"
    assert statuses["exp[float32,matrix,spaced,forward]"] == "blocked"
    assert statuses["exp[float32,matrix,transposed,forward]"] == "passed"
    assert statuses["exp[float16,matrix,transposed,forward]"] == "passed"


@pytest.mark.parametrize(
    ("plant", "case", "text"),
    [
        (
            "plant('exp', lambda op, x, out: np.exp(x[..., :-1], out[..., :-1]))",
            "exp[float32,odd,given,forward]", "never written",
        ),
        (
            "plant('exp', lambda op, x, out: (np.exp(x, out), x.__imul__(2)))",
            "exp[float32,matrix,given,forward]", "input was changed",
        ),
        (
            "def f(op, x, out):\n    np.exp(x, out)\n"
            "    if out.size == 35: np.lib.stride_tricks.as_strided(out, (36,), (4,))[35] = 1\n"
            "plant('exp', f)",
            "exp[float32,matrix,given,forward]", "memory after a result",
        ),
        (
            "calls = []\ndef f(op, x, out):\n    calls.append(1)\n"
            "    np.add(np.exp(x), len(calls) % 3 * 1e-7, out)\nplant('exp', f)",
            "exp[float32,matrix,given,twice]", "differs between two runs",
        ),
    ],
    ids=["tail", "input", "canary", "twice"],
)  # fmt: skip
def test_what_kernels_do_to_memory(tmp_path: Path, plant: str, case: str, text: str) -> None:
    done = run(tmp_path, "--case", case, plant=plant)
    assert done.statuses() == {case: "failed"}, done.text
    assert text in done.text


def test_a_wrong_gradient_fails_level_2_only(tmp_path: Path) -> None:
    plant = """
from groundup.ops.op import REGISTRY
REGISTRY["exp"].vjp = lambda self, ctx, grad: (grad * ctx.saved[0] * 1.001,)
"""
    done = run(tmp_path, "--ops", "exp", "--dtype", "float32", plant=plant)
    failed = {name for name, status in done.statuses().items() if status == "failed"}
    assert failed
    assert all(name.endswith("gradient]") for name in failed)


def test_waivers(tmp_path: Path) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(WAIVER.format(day="9999-01-01"))
    case = "exp[float32,matrix,given,forward]"
    done = run(tmp_path, "--case", case, "--waivers", file, plant=COARSE)
    assert (done.code, done.statuses()) == (0, {case: "waived"}), done.text
    assert done.reason(case) == "known to be coarse"
    assert done.card["totals"]["passed"] == 0

    strict = run(tmp_path, "--case", case, "--waivers", file)
    assert (strict.code, strict.statuses()) == (1, {case: "failed"})
    assert "remove the waiver" in strict.text

    file.write_text(WAIVER.format(day="2020-01-01"))
    late = run(tmp_path, "--case", case, "--waivers", file, plant=COARSE)
    assert (late.code, late.statuses()) == (1, {case: "failed"})
    assert "expired on 2020-01-01" in late.text


def test_the_ratchet(tmp_path: Path) -> None:
    before = run(tmp_path, *EXP)
    baseline = tmp_path / "before.json"
    for case in before.card["cases"]:
        case["ratio"] = case["ratio"] and case["ratio"] / 20
    baseline.write_text(json.dumps(before.card))
    after = run(tmp_path, *EXP, "--baseline", baseline)
    assert after.code == 1
    assert "PROBLEM exp[float32,odd,given,forward]: ratio" in after.text
    same = run(tmp_path, *EXP, "--baseline", tmp_path / "card.json")
    assert same.code == 0, same.text


def test_cases_without_a_result_are_exit_code_3(tmp_path: Path) -> None:
    plant = """
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    return True if "exp[float32,odd,given" in item.nodeid else None
"""
    done = run(tmp_path, *EXP, plant=plant)
    assert done.code == 3
    assert "1 cases have no result, the first is exp[float32,odd,given,forward]" in done.text


def test_nothing_selected_is_no_success(tmp_path: Path) -> None:
    done = run(tmp_path, "--ops", "nosuchop")
    assert done.code == 1
    assert "no case is selected" in done.text


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "--backend is missing"),
        (["--backend", "cpu", "--json", "no/card.json"], "there is no such folder"),
        (["--backend", "cpu", "--track", "fuzz", "--examples", "0"], "must be at least 1, got 0"),
        (["--backend", "nosuch"], "no backend named 'nosuch'"),
        (["--backend", "cpu", "--device", "webgpu:0"], "no device of the backend cpu"),
        (["--backend", "cpu", "--device", "cpu:7"], "there is no cpu:7"),
        (["--backend", "cpu", "--baseline", "none.json"], "cannot read none.json"),
        (["--backend", "cpu", "--level", "7"], "invalid choice"),
    ],
)
def test_requests_that_make_no_sense(tmp_path: Path, options: list[str], complaint: str) -> None:
    done = run_pytest(tmp_path, "--pyargs", "groundup_conformance.suite", *options)
    assert done.returncode == 4
    assert complaint in done.stderr


def test_other_runs_of_pytest_see_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_nothing(pytestconfig):\n"
        "    assert pytestconfig.getoption('conformance_backend', None) is None\n"
        "    loaded = [m for m in sys.modules if m.startswith('groundup_conformance')]\n"
        "    assert set(loaded) <= {'groundup_conformance', 'groundup_conformance.plugin'}\n"
        "    assert 'groundup' not in sys.modules\n"
    )
    done = run_pytest(tmp_path, "test_other.py")
    assert done.returncode == 0, done.stdout
    assert "scorecard" not in done.stdout
    assert "--conformance" not in run_pytest(tmp_path, "--help").stdout


def test_option_names_that_others_have_taken(tmp_path: Path) -> None:
    plant = "def pytest_addoption(parser):\n    parser.addoption('--html')\n"
    (tmp_path / "planted.py").write_text(plant)
    page = tmp_path / "card.html"
    done = run_pytest(
        tmp_path, "-p", "planted", "--pyargs", "groundup_conformance.suite", "--backend", "cpu",
        "--case", "memory[float32,*]", "--conformance-html", page,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert page.exists()

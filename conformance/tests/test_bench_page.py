"""docs/performance.md is what its generator makes of the runs that are stored."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from groundup_conformance.bench import agreement

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("performance", DOCS / "generate_performance.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(ratio: float, rows: int = 2) -> dict[str, Any]:
    """A run as --json writes it, with what the page does not show left out."""
    part = {"median": ratio, "low": ratio, "high": ratio, "best": ratio, "rounds": 5, "seconds": 1}
    info = {
        "op": "exp", "backend": "cpu", "dtype": "float32", "regime": "cache", "counts": {},
        "device_seconds": 1e-3, "cold_seconds": 2e-3, "wall_seconds": 3e-3, "timer": "host",
        "bytes": 8, "flops": 1, "gbs": 12.0, "tflops": 0.5, "ceiling": "copy bandwidth",
        "share": 0.25, "checked": "rows", "ratio": {"torch": part},
    }  # fmt: skip
    known = {
        "device": "cpu", "description": "a cpu", "memory": dict.fromkeys(["copy", "triad"], 1e10),
        "flops": {"float32": 1e11}, "launch": 1e-6, "bandwidth": {},
    }  # fmt: skip
    return {
        "datetime": "2026-01-02T03:04:05",
        "machine_info": {
            "node": "a-name", "system": "Linux", "machine": "x86_64", "python_version": "3.11.1",
            "groundup": "0.1.0", "numpy": "2.4", "cpu": {"brand_raw": "A CPU", "count": 2},
        },
        "groundup": {
            "suite": "quick", "ceilings": {"cpu": known}, "peers": {"cpu": ["torch 2"]},
            "absent": {}, "conditions": {"processors": 2, "load average": 0.5},
        },
        "benchmarks": [
            {"group": f"exp/float32/{i}", "stats": {"rounds": 5, "data": [1]}, "extra_info": info}
            for i in range(rows)
        ],
    }  # fmt: skip


def test_the_page_is_current(generate: ModuleType) -> None:
    assert (DOCS / "performance.md").read_text() == generate.page(), (
        "run: python docs/generate_performance.py"
    )


def test_a_run_becomes_a_page(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "RUNS", tmp_path / "stored")
    for name, ratio in (("cpu", 2.0), ("cpu-again", 2.1)):
        (tmp_path / "run.json").write_text(json.dumps(run(ratio)))
        generate.store(tmp_path / "run.json", name)
    text = generate.page()
    assert "2 rows of the suite `quick`, 2026-01-02, A CPU, 2 cores" in text
    assert "`groundup bench cpu --suite quick --peers torch --json run.json`" in text
    assert "| cache | 2 | 25% | 2.00 (2 rows) |" in text
    assert "| torch | all | 2.000 | 2.100 | 5.0% | 5.0% | 2 of 2 |" in text
    assert "| `exp/float32/1` | cpu | 1 ms | 2 ms | 3 ms | 12.0 |" in text
    assert "a-name" not in (tmp_path / "stored" / "cpu.json").read_text()


def test_agreement_counts_rows_either_way() -> None:
    for one, two in ((1.0, 1.2), (1.2, 1.0)):
        whole, cache = agreement.agreements(list(agreement.pairs(run(one), run(two))))
        assert (whole.rows, cache.rows, whole.count, whole.close) == ("all", "cache", 2, 0)
        assert whole.apart == pytest.approx(0.2)
    assert agreement.text([]) == "no row has a ratio in both runs"

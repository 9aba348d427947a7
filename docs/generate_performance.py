"""Writes docs/performance.md from the runs in docs/performance/.

    python docs/generate_performance.py               the page alone, from what is stored
    python docs/generate_performance.py cpu=run.json  store a run of `groundup bench --json` first

A second run of the same kind, stored as NAME-again, says how far the ratios of two runs are apart.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from groundup.files import atomic_write
from groundup_conformance.bench import agreement
from groundup_conformance.bench.report import ratio, seconds

DOCS = Path(__file__).parent
RUNS = DOCS / "performance"
NOTE = "<!-- Written by docs/generate_performance.py from docs/performance/. Do not edit. -->"
AGAIN = "-again"
MACHINE = ("system", "machine", "python_version", "groundup", "numpy")
FIGURES = (
    "op", "backend", "dtype", "regime", "device_seconds", "cold_seconds", "wall_seconds", "timer",
    "counts", "bytes", "flops", "gbs", "tflops", "ceiling", "share", "checked", "ratio",
)  # fmt: skip
RATIOS = ("backend", "regime", "ratio")  # all that is needed of a second run
INTRODUCTION = """\
How fast every op is: beside what the device could do at most, and beside other libraries that do
the same work in the same run. Read the ratios; an absolute time belongs to one machine on one day.

- *device* is the time of the kernels alone, back to back over three sets of random operands, by the
  device's own clock where it has one (events on CUDA, timestamps on WebGPU), else by the host's;
  *cold* is the same after the caches were filled with other data; *call* is a whole call from
  Python, waited for at the end of a round.
- *of* is the share of the ceiling that binds: the bandwidth of copying, adding, reading or writing
  that was measured in the same run at a working set of that size (so that what fits a cache is held
  against that cache), the best matrix product, or the smallest launch. Bytes and operations are
  those of the op's own `cost`; those of a ceiling are counted from its tensors. More than 102 %
  fails the run.
- With `--json`, `counts` of each row says what one call more asks of the device: launches, kernels
  compiled, allocations and their bytes, waits of the host.
- */torch* and the like are our time over theirs, round by round in turns: the median, and the
  quartiles in brackets.
- Every row was checked against the float64 oracle before and after: *rows* says that of a large
  result some rows were; all of its elements must have the same bits before and after, from memory
  that held two different poisons. A row that could not be checked is not shown.

```
groundup bench cpu                          # every op, and the shapes of gpt-12m: minutes
groundup bench cpu webgpu --ops 'softmax,matmul' --peers torch,numpy --plot drawn --json run.json
groundup bench cpu --suite full             # 64 M elements, GPT-2's shapes
groundup bench cpu --suite models --ops 'gpt-12m/*' --peers torch
groundup bench compare before.json run.json
```

It is a run of pytest with pytest-benchmark, one row per backend in the group op/dtype/shapes:
`pytest --pyargs groundup_conformance.bench --backend cpu --backend webgpu` takes their options too
(`--benchmark-compare`, `--benchmark-autosave`), and so does `groundup bench` after `--`.
"""


def store(run: Path, name: str) -> None:
    """Keep of a run what the page shows, in the form that it has."""
    whole = agreement.load(run)
    figures = RATIOS if name.endswith(AGAIN) else FIGURES
    machine = whole["machine_info"]
    cpu = machine.get("cpu", {})
    kept = {
        "datetime": whole["datetime"][:10],
        "machine_info": {key: machine[key] for key in MACHINE if key in machine}
        | {"cpu": cpu.get("brand_raw", "unknown"), "cores": cpu.get("count")},
        "groundup": whole["groundup"],
        "benchmarks": [
            {
                "group": row["group"],
                "rounds": row["stats"]["rounds"],
                "extra_info": {key: row["extra_info"].get(key) for key in figures},
            }
            for row in whole["benchmarks"]
            if row["extra_info"].get("device_seconds") is not None  # else it failed
        ],
    }
    RUNS.mkdir(exist_ok=True)
    with atomic_write(RUNS / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(_rounded(kept), indent=None, separators=(",", ":")) + "\n")


def page() -> str:
    """The whole page."""
    stored = {path.stem: agreement.load(path) for path in sorted(RUNS.glob("*.json"))}
    lines = ["# Performance", "", NOTE, "", INTRODUCTION]
    for name, run in stored.items():
        if not name.endswith(AGAIN):
            lines += _run(name, run, stored.get(name + AGAIN))
    return "\n".join(lines).rstrip() + "\n"


def _run(name: str, run: Mapping[str, Any], again: Mapping[str, Any] | None) -> Iterator[str]:
    rows, ours, machine = run["benchmarks"], run["groundup"], run["machine_info"]
    peers = list(dict.fromkeys(p for row in rows for p in row["extra_info"]["ratio"]))
    yield f"## {name}"
    yield ""
    yield (
        f"{len(rows)} rows of the suite `{ours['suite']}`, {run['datetime']}, {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['system']} {machine['machine']}, Python "
        f"{machine['python_version']}, NumPy {machine['numpy']}, groundup {machine['groundup']}."
    )
    conditions = ", ".join(f"{key} {value}" for key, value in ours["conditions"].items())
    yield f"Conditions at its end: {conditions}. (A load above the processors: others ran too.)"
    named = [f"--peers {','.join(peers)}"] if peers else []
    command = " ".join(["groundup bench", *ours["ceilings"], "--suite", ours["suite"], *named])
    yield f"To repeat it: `{command} --json run.json`."
    for place, versions in ours["peers"].items():
        if versions:
            yield f"Beside `{place}`: {'; '.join(versions)}."
    yield ""
    yield from _ceilings(ours["ceilings"])
    yield from _medians(rows, peers)
    if again is not None:
        yield from _again(run, again)
    for regime in dict.fromkeys(row["extra_info"]["regime"] for row in rows):
        yield f"### {name}, {regime}"
        yield ""
        yield from _table([r for r in rows if r["extra_info"]["regime"] == regime], peers)


def _ceilings(found: Mapping[str, Any]) -> Iterator[str]:
    kinds = list(dict.fromkeys(kind for known in found.values() for kind in known["memory"]))
    heads = ["ceilings of", *kinds, "matrix products", "smallest launch"]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for place, known in found.items():
        memory = [f"{known['memory'].get(kind, 0) / 1e9:.0f} GB/s" for kind in kinds]
        rates = [f"{dtype} {rate / 1e12:.3g} TFLOP/s" for dtype, rate in known["flops"].items()]
        start = seconds(known["launch"]) if known["launch"] else ""
        cells = [f"`{place}`: {known['description']}", *memory, ", ".join(rates), start]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _medians(rows: list[Any], peers: list[str]) -> Iterator[str]:
    heads = ["regime", "rows", "share of the ceiling", *[f"time / {p}" for p in peers]]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for regime in dict.fromkeys(row["extra_info"]["regime"] for row in rows):
        here = [r["extra_info"] for r in rows if r["extra_info"]["regime"] == regime]
        cells = [regime, str(len(here)), f"{statistics.median(r['share'] for r in here):.0%}"]
        for peer in peers:
            known = [r["ratio"][peer]["median"] for r in here if peer in r["ratio"]]
            cells.append(f"{statistics.median(known):.2f} ({len(known)} rows)" if known else "")
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "Medians over the rows of each regime."
    yield ""


def _again(run: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[str]:
    yield "The same run again on the same machine: the median ratio of each, and how far apart they"
    yield f"are (load average {again['groundup']['conditions'].get('load average', 'unknown')})."
    yield ""
    yield "| to | rows | first | again | apart | of the best rounds | rows within 10 % |"
    yield "|---|---|---|---|---|---|---|"
    for a in agreement.agreements(list(agreement.pairs(run, again))):
        yield (
            f"| {a.peer} | {a.rows} | {a.before:.3f} | {a.after:.3f} | {a.apart:.1%} | "
            f"{a.best_apart:.1%} | {a.close} of {a.count} |"
        )
    yield ""


def _table(rows: list[Any], peers: list[str]) -> Iterator[str]:
    heads = ["op/dtype/shape", "on", "device", "cold", "call", "GB/s", "TFLOP/s", "of", "ceiling"]
    heads += ["checked", *[f"/{peer}" for peer in peers]]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        info = row["extra_info"]
        cold = seconds(info["cold_seconds"]) if info["cold_seconds"] else ""
        cells = [
            f"`{row['group']}`", info["backend"], seconds(info["device_seconds"]), cold,
            seconds(info["wall_seconds"]), f"{info['gbs']:.1f}", f"{info['tflops']:.3f}",
            f"{info['share']:.0%}", info["ceiling"], info["checked"],
            *[ratio(info["ratio"].get(peer)) for peer in peers],
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    yield ""


def _rounded(value: Any) -> Any:
    """Four digits: more is noise, and makes every diff long."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        target, _, file = argument.partition("=")
        store(Path(file), target)
    (DOCS / "performance.md").write_text(page())

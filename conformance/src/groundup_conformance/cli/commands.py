"""`groundup conformance ...`: the suite and its tools on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from groundup.cli.parameters import whole

if TYPE_CHECKING:
    from groundup.backends.api import Device
    from groundup.ops.op import Op

Name = Annotated[str, Parameter(name="ID")]
Track = Literal["robust", "threads", "leaks", "fuzz", "all"]
ProfileName = Literal["ieee", "wgsl"]

app = App(
    name="conformance",
    help="Prove that a backend computes what the ops mean: `groundup conformance BACKEND`.",
)


@app.default
def run(
    backend: Annotated[str, Parameter(name="BACKEND")],
    /,
    *pytest_args: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    device: str | None = None,
    level: Literal[0, 1, 2, 3] | None = None,
    track: Annotated[list[Track] | None, Parameter(negative=())] = None,
    ops: str | None = None,
    dtype: str | None = None,
    case: str | None = None,
    profile: ProfileName | None = None,
    waivers: Path | None = None,
    baseline: Path | None = None,
    json: Path | None = None,
    html: Path | None = None,
) -> int:
    """Run the suite on a backend. The exit code is 0 if everything that was run passes.

    Parameters
    ----------
    backend
        The backend, such as cpu, or one of its devices, such as cuda:1.
    pytest_args
        After `--`: arguments for pytest, which runs the suite.
    device
        The device, if not the backend's first.
    level
        0 memory and errors, 1 results, 2 gradients and determinism, 3 training; lower ones
        included. By default 2, or none with --track.
    track
        robust, threads, leaks, fuzz, or all.
    ops
        Only ops that fit, with * and ?, several with commas.
    dtype
        Only cases of dtypes that fit.
    case
        Only cases whose name fits.
    profile
        The error budgets, if not the device's own.
    waivers
        A file of waivers, if not the one in the backend's package.
    baseline
        An earlier scorecard: a case that got worse, or whose error grew fourfold, fails the run.
    json
        Write the scorecard there.
    html
        Write the scorecard as a page there.
    """
    import pytest

    from groundup_conformance.options import long_name

    given = {
        "backend": backend, "device": device, "level": level, "ops": ops, "dtype": dtype,
        "case": case, "profile": profile, "waivers": waivers, "baseline": baseline, "json": json,
        "html": html,
    }  # fmt: skip
    options = [f"{long_name(k)}={_absolute(v)}" for k, v in given.items() if v is not None]
    options += [f"{long_name('track')}={name}" for name in track or ()]
    _check(given, track)
    return int(
        pytest.main(
            [
                "--pyargs", "groundup_conformance.suite", "-q", "--no-header", "--tb=short", "-rN",
                "--assert=plain", "-p", "no:cacheprovider", "--noconftest",
                "-c", str(configuration()),
                *options, *pytest_args,
            ]
        )
    )  # fmt: skip


@app.command
def repro(case: Name, /, *, device: str = "cpu", profile: ProfileName | None = None) -> None:
    """Print a script that repeats one case: it needs groundup, NumPy and the backend alone.

    Parameters
    ----------
    case
        The case's name, as the scorecard has it.
    device
        Where to run it.
    profile
        The error budgets, if not the device's own.
    """
    from groundup_conformance import repro as scripts
    from groundup_conformance.running import Oracle

    place, budgets, ops = _setting(device, profile)
    check = scripts.find(case, ops, place)
    print(scripts.script(check, place, Oracle(budgets)), end="")


@app.command
def compare(before: Path, after: Path, /, *, ratchet: bool = True) -> int:
    """Show what got worse between two scorecards. The exit code is 1 if anything did.

    Parameters
    ----------
    before
        The earlier scorecard, as JSON.
    after
        The later one.
    ratchet
        Count errors that grew fourfold but are within their budget.
    """
    from groundup_conformance import compare as comparison
    from groundup_conformance.scorecard import load

    old, new = load(before), load(after)
    for difference in comparison.differences(old, new):
        print(f"not the same {difference}")
    found = comparison.worse(old, new, ratchet=ratchet)
    for change in found:
        print(f"worse   {change}")
    for change in comparison.better(old, new):
        print(f"better  {change}")
    print(f"{len(found)} cases are worse")
    return 1 if found else 0


@app.command
def coverage(*, device: str = "cpu") -> int:
    """Show how many cases of each class every op has; 1 if a class that applies is empty.

    Parameters
    ----------
    device
        The device whose dtypes count.
    """
    from groundup_conformance import coverage as table

    place, _, ops = _setting(device, None)
    found = table.coverage(ops, place.info)
    print(table.render(found))
    holes = [f"{entry.op} ({', '.join(entry.holes)})" for entry in found if entry.holes]
    if holes:
        print(f"no cases: {'; '.join(holes)}")
    return 1 if holes else 0


@app.command
def explain(op: str, /, *, device: str = "cpu", profile: ProfileName | None = None) -> None:
    """Say what is asked of an op: its accuracy class, budgets, cases.

    Parameters
    ----------
    op
        Its name, see `groundup ops`.
    device
        The device whose dtypes count.
    profile
        The error budgets, if not the device's own.
    """
    from groundup.ops.third_party import find
    from groundup_conformance.explain import explain as words

    place, budgets, _ = _setting(device, profile)
    print(words(find(op), place.info, budgets))


@app.command
def badge(card: Path, /, *, out: Path) -> None:
    """Draw the badge of a scorecard.

    Parameters
    ----------
    card
        The scorecard, as JSON.
    out
        The SVG file to write.
    """
    from groundup_conformance.report import badge as drawing
    from groundup_conformance.scorecard import load

    drawing.write(load(card), out)


@app.command
def markdown(card: Path, /) -> None:
    """Print a scorecard as Markdown.

    Parameters
    ----------
    card
        The scorecard, as JSON.
    """
    from groundup_conformance.report import markdown as text
    from groundup_conformance.scorecard import load

    print(text.render(load(card)), end="")


@app.command
def selftest(*, bug: str | None = None, json: Path | None = None) -> int:
    """Plant bugs in the cpu backend; 1 if the suite misses one, or fails the backend without any.

    Parameters
    ----------
    bug
        Only bugs whose names fit, with * and ?, several with commas.
    json
        Write what was planted, and which case killed it, there.
    """
    from groundup_conformance.selftest import trial

    def tell(outcome: trial.Outcome) -> None:
        found = outcome.killed_by or f"SURVIVES {outcome.asked} cases"
        print(f"{outcome.name:<40} {outcome.where:<13} {found}", flush=True)

    report = trial.run(trial.chosen_bugs(bug), tell)
    for problem in report.unclean:
        print(f"fails without a bug: {problem}")
    killed = len(report.outcomes) - len(report.survivors)
    print(f"{killed} of {len(report.outcomes)} bugs found, in {report.seconds:.0f} s")
    if json is not None:
        _write_json(report.as_json(), json)
    return 0 if report.ok else 1


@app.command
def mutate(
    *,
    kernels: str | None = None,
    json: Path | None = None,
    limit: Annotated[int | None, Parameter(converter=whole)] = None,
    seed: Annotated[int, Parameter(converter=whole)] = 0,
    equal: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Change the cpu backend's kernels in one place at a time; 1 if levels 0 to 2 miss over 5 %.

    Parameters
    ----------
    kernels
        Only functions that fit, by file and name: softmax.*,normalization._layer_norm.
    json
        Write every change, and what found it, there.
    limit
        Only so many changes, drawn at random.
    seed
        For that draw.
    equal
        Also the changes that are known to compute the same, or only slower.
    """
    from groundup_conformance.selftest.mutation import campaign

    report = campaign.run(campaign.Request(kernels, limit, seed, equal), print)
    print(report.summary())
    if json is not None:
        _write_json(report.as_json(), json)
    return 0 if report.ok else 1


def _write_json(data: dict[str, Any], path: Path) -> None:
    import json

    from groundup.files import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _setting(device: str, profile: str | None) -> tuple[Device, Any, dict[str, type[Op]]]:
    """(device, profile, ops) for commands that run no suite."""
    from groundup.backends.devices import device_for
    from groundup.ops.third_party import all_ops
    from groundup_conformance.budgets import PROFILES

    place = device_for(device)
    return place, PROFILES[profile or place.info.profile], dict(all_ops())


def _check(given: dict[str, Any], track: list[Track] | None) -> None:
    """Whatever is wrong with the request is said in one line, before pytest starts."""
    from groundup_conformance.options import resolve
    from groundup_conformance.scorecard import load
    from groundup_conformance.waivers import from_file

    options = resolve(**given, track=track)
    options.open()
    if options.waivers:
        from_file(options.waivers)
    if options.baseline:
        load(options.baseline)


def _absolute(value: object) -> object:
    return value.resolve() if isinstance(value, Path) else value


def configuration() -> Path:
    """An empty configuration, so that the one of the folder we are in has no say."""
    from importlib import resources

    return Path(str(resources.files("groundup_conformance") / "pytest.ini"))

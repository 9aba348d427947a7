"""`groundup bench ...`: how fast every op is, beside what the device can do and other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

Suite = Literal["quick", "full", "models"]

app = App(
    name="bench",
    help="Measure every op: `groundup bench cpu`, `groundup bench cpu webgpu --peers torch`.",
)


@app.default
def run(
    *backends: Annotated[str, Parameter(name="BACKEND", allow_leading_hyphen=True)],
    suite: Suite = "quick",
    ops: str | None = None,
    dtype: str | None = None,
    peers: str | None = None,
    json: Path | None = None,
    plot: Path | None = None,
) -> int:
    """Measure backends, each row proved right before and after. Exit code 0 if all of them are.

    Parameters
    ----------
    backends
        Backends or devices, such as cpu or cuda:1; cpu if none is named. After `--`: arguments for
        pytest and pytest-benchmark, such as --benchmark-autosave or --benchmark-compare.
    suite
        quick (minutes), full (every size, GPT-2's shapes too), or models (training, decoding).
    ops
        Only ops that fit, with * and ?, several with commas; of the models only tasks:
        'gpt-12m/*'.
    dtype
        The dtypes: float32,bfloat16. By default float32.
    peers
        Libraries to run beside, of those that are installed: torch,numpy,cupy,jax.
    json
        Write everything there, in pytest-benchmark's format.
    plot
        Draw the roofline and the ratios into this folder, as PNG and SVG.
    """
    import pytest

    from groundup.backends.devices import device_for
    from groundup_conformance.bench.options import long_name, resolve
    from groundup_conformance.cli.commands import configuration

    names = [name for name in backends if not name.startswith("-")]
    extra = [name for name in backends if name.startswith("-")]
    chosen = resolve(backend=names, suite=suite, ops=ops, dtype=dtype, peers=peers)
    for name in chosen.backends:
        device_for(name)
    given = {"suite": suite, "ops": ops, "dtype": dtype, "peers": peers, "plot": plot}
    options = [f"{long_name(k)}={_absolute(v)}" for k, v in given.items() if v is not None]
    options += [f"{long_name('backend')}={name}" for name in chosen.backends]
    if json is not None:
        options.append(f"--benchmark-json={json.resolve()}")
    if not any(argument.startswith("--benchmark") for argument in extra):
        options.append("--benchmark-quiet")  # its table of every group; ours says it in a line
    return int(
        pytest.main(
            [
                "--pyargs", "groundup_conformance.bench", "-q", "--no-header", "--tb=short", "-rfs",
                "--assert=plain", "-p", "no:cacheprovider", "--noconftest",
                "-c", str(configuration()),
                f"--benchmark-storage={Path('.benchmarks').resolve()}", *options, *extra,
            ]
        )
    )  # fmt: skip


@app.command
def compare(before: Path, after: Path, /) -> None:
    """Show how far the ratios of two runs (--json, with --peers) are apart.

    Parameters
    ----------
    before
        The earlier run.
    after
        The later one.
    """
    from groundup_conformance.bench import agreement

    found = agreement.pairs(agreement.load(before), agreement.load(after))
    print(agreement.text(list(found)))


def _absolute(value: object) -> object:
    return value.resolve() if isinstance(value, Path) else value

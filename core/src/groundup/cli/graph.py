"""`groundup graph`: a program's figures, whether it fits into a memory, and its picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from groundup.cli.train import make_flags
from groundup.errors import ConfigError
from groundup.train.config import PRESETS, TrainConfig, flag, preset, read_toml
from groundup.units import in_bytes, parse_size, scaled

if TYPE_CHECKING:
    from groundup.backends.api import Device
    from groundup.program.executable import Executable
    from groundup.train.dataset import Dataset

    Flags = Any
else:
    Flags = make_flags("Model", "Data", "Training", "dtype")

_NULL = "null"


def graph(
    name: Annotated[str, Parameter(name="PRESET|FILE")] = "tiny",
    /,
    *,
    out: Path | None = None,
    device: str = _NULL,
    memory: str | None = None,
    config: Path | None = None,
    flags: Annotated[Flags, Parameter(name="*")] = Flags(),  # noqa: B008 - it is frozen
) -> None:
    """Show a training step, or a saved program, without running it: work, memory, a picture.

    As in: groundup graph gpt-12m --memory 8GiB --out graph.html. Every setting of a preset has the
    flag that it has in `groundup train`.

    Parameters
    ----------
    name
        A preset, or a program's file, as the save method of a compiled function writes it.
    out
        Draw the program into this file, .svg or .html.
    device
        Whose kernels the program consists of. The default, null, computes nothing; on another
        device a preset's step is run twice.
    memory
        Say whether the program fits into so much memory, such as 8GiB, and which batch does.
    config
        A TOML file of settings, weaker than flags.
    """
    from groundup.program.drawing.page import check_path

    limit = None if memory is None else parse_size(memory, "--memory")
    if limit is not None and device != _NULL:
        raise ConfigError("--memory is a question to --device null", hint="leave --device out")
    if out is not None:
        check_path(out)
    changes: dict[str, object] = {} if config is None else read_toml(config)
    changes |= {k: v for k, v in dataclasses.asdict(flags).items() if v is not None}
    if name in PRESETS or not _is_path(name):
        _show_step(name, preset(name).changed(changes), device, limit, out)
    elif changes:
        wrong = flag(next(iter(changes)))
        raise ConfigError(f"{name} is a program: {wrong} is a preset's setting")
    else:
        _show_file(Path(name), device, limit, out)


def _is_path(name: str) -> bool:
    return Path(name).exists() or Path(name).suffix == ".safetensors"


def _opened(name: str) -> Device:
    """A null device of our own: others have used the one of that name."""
    from groundup.backends import null
    from groundup.backends.devices import device_for

    return null.fresh() if name == _NULL else device_for(name)


# ---- a preset's step ----


def _show_step(
    name: str, config: TrainConfig, device: str, limit: int | None, out: Path | None
) -> None:
    from groundup.train.dataset import load_dataset
    from groundup.train.programs import trace_step

    place, dataset = _opened(device), load_dataset(config)
    traced = trace_step(config, dataset, place)
    parts = traced.programs
    text = [
        f"{name}: a training step of {config.batch_size} x {config.block_size} tokens, "
        f"{config.dtype}, on {traced.device.info.name}",
        _line("parameters", f"{scaled(traced.parameters)}, {in_bytes(traced.parameter_bytes)}"),
    ]
    for part, times, executable in parts:
        text += [f"{part}, {times} x in a step"] if len(parts) > 1 else []
        text += _lines(executable)
    more = in_bytes(traced.state_bytes - traced.parameter_bytes)
    text.append(
        _line("in all", f"{in_bytes(traced.peak)}: arena, parameters, {more} of optimizer and "
                        "random state, constants, a batch, results")
    )  # fmt: skip
    if limit is not None:
        text.append(_verdict(traced.peak, limit) + _best_batch(config, dataset, limit))
    titles = [f"{name}: {part if len(parts) > 1 else 'a training step'}" for part, _, _ in parts]
    _finish(text, titles, [executable for _, _, executable in parts], out)


def _best_batch(config: TrainConfig, dataset: Dataset, limit: int) -> str:
    from groundup.train.programs import MOST, largest_batch

    best = largest_batch(config, dataset, limit)
    if not best:
        return "; not even a batch of one sequence does"
    return f"; the largest --batch-size that does is {best:,}{' or more' if best == MOST else ''}"


# ---- a saved program ----


def _show_file(path: Path, device: str, limit: int | None, out: Path | None) -> None:
    from groundup import creation
    from groundup.program.saved import load

    place = _opened(device)
    loaded = load(path, place)
    given = [
        creation.zeros(spec.shape, dtype=spec.dtype, device=place)
        for spec in loaded.inputs.values()
    ]
    results = loaded(*given) if device == _NULL else None  # noqa: F841 - it takes memory
    text = [f"{path.name} on {place.info.name}", *_lines(loaded.executable)]
    state = sum(view.layout.spec.nbytes for view in loaded.executable.state.values())
    if device == _NULL:
        all_of_it = f"{in_bytes(place.pool.peak)}: arena, {in_bytes(state)} of captured arrays, "
        text.append(_line("in all", f"{all_of_it}constants, inputs, results"))
    if limit is not None:
        text.append(_verdict(place.pool.peak, limit))
    _finish(text, [path.name], [loaded.executable], out)


# ---- texts ----


def _lines(executable: Executable) -> Iterator[str]:
    from groundup.program.drawing.figures import figures_of

    found = figures_of(executable)
    yield _line("launches", f"{found.launches:,}, and {found.views:,} views that move nothing")
    yield _line("work", f"{scaled(found.flops)}flop, {in_bytes(found.bytes)} to move at the least")
    yield _line(
        "arena",
        f"{in_bytes(found.planned)} planned, {found.ratio:.3f} x the largest live set "
        f"({in_bytes(found.largest_live_set)}); all values: {in_bytes(found.sum_of_values)}",
    )


def _line(name: str, text: str) -> str:
    return f"  {name:<12}{text}"


def _verdict(peak: int, limit: int) -> str:
    return f"{'fits' if peak <= limit else 'does not fit'} into {in_bytes(limit)}"


def _finish(
    text: Sequence[str], titles: Sequence[str], executables: Sequence[Executable], out: Path | None
) -> None:
    print("\n".join(text))
    if out is None:
        return
    from groundup.program.drawing.page import write
    from groundup.program.drawing.sheet import sheet_of

    sheets = [sheet_of(title, each) for title, each in zip(titles, executables, strict=True)]
    write(out, sheets, "\n".join(text))
    print(f"picture: {out}")

"""What the device null says of a training step's memory is what the step really takes."""

from __future__ import annotations

import attrs
import pytest

from groundup.backends import null
from groundup.backends.devices import default_device
from groundup.errors import ConfigError
from groundup.program.arenas import nbytes
from groundup.program.drawing.figures import Figures, figures_of
from groundup.train import programs
from groundup.train.config import TrainConfig
from groundup.train.dataset import Dataset, load_dataset
from groundup.train.programs import largest_batch, trace_step
from groundup_cpu_ref import device as cpu


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    text = tmp_path_factory.mktemp("data") / "text.txt"
    text.write_text("she sells sea shells by the sea shore. " * 60)
    return TrainConfig(
        n_layer=2, n_head=2, n_embd=32, block_size=16, dropout=0.1, batch_size=3,
        data=(text,), tokenizer="char",
    )  # fmt: skip


@pytest.fixture(scope="module")
def dataset(config: TrainConfig) -> Dataset:
    return load_dataset(config)


def real_device(monkeypatch: pytest.MonkeyPatch) -> cpu.CpuDevice:
    """A cpu whose pool gives all arrays, small ones too, so that it counts them."""
    monkeypatch.setattr(cpu, "_POOLED", 0)
    device = cpu.CpuDevice()
    device.info = device.describe()
    return device


def same_but_for_scratch(wanted: Figures, got: Figures, scratch: int) -> bool:
    """Kernels of a device may ask for scratch in the arena, which `null` knows nothing of."""
    known = attrs.evolve(got, planned=wanted.planned, largest_live_set=wanted.largest_live_set)
    return known == wanted and got.largest_live_set - wanted.largest_live_set <= scratch


@pytest.mark.parametrize("parts", [1, 3])
def test_it_is_that_of_a_step_which_really_runs(
    config: TrainConfig, dataset: Dataset, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config.changed({"gradient_accumulation_steps": parts})
    predicted = trace_step(config, dataset, null.fresh())
    real = trace_step(config, dataset, real_device(monkeypatch))
    scratch = 0
    assert predicted.state_bytes == real.state_bytes
    for (name, times, wanted), (same, often, got) in zip(
        predicted.programs, real.programs, strict=True
    ):
        assert (name, times) == (same, often)
        of_kernels = sum(place.nbytes for place in got.plan.workspaces.values())
        assert 0 <= got.plan.peak - wanted.plan.peak <= of_kernels
        assert same_but_for_scratch(figures_of(wanted), figures_of(got), of_kernels)
        scratch += of_kernels
    assert 0 <= real.peak - predicted.peak <= scratch


def test_the_peak_is_the_arena_the_state_and_little_else(
    config: TrainConfig, dataset: Dataset
) -> None:
    traced = trace_step(config, dataset, null.fresh())
    ((_, _, executable),) = traced.programs
    arenas = sum(nbytes(view) for view in executable._arenas)
    assert arenas == executable.plan.peak
    assert arenas + traced.state_bytes < traced.peak < 1.15 * (arenas + traced.state_bytes)


def test_figures_are_what_the_device_counts(config: TrainConfig, dataset: Dataset) -> None:
    device = null.fresh()
    ((_, _, executable),) = trace_step(config, dataset, device).programs
    device.work.reset()
    executable._replay()
    found = figures_of(executable)
    assert device.work.launches == found.launches
    assert (device.work.flops, device.work.bytes) == (found.flops, found.bytes)
    assert found.launches == len(executable.launches)


def test_nothing_is_computed_and_the_default_device_stays(
    config: TrainConfig, dataset: Dataset
) -> None:
    before = default_device()
    device = null.fresh()
    trace_step(config, dataset, device)
    assert default_device() is before
    assert device.work.launches > 0
    assert before is not device


def test_the_largest_batch_fits_and_the_next_does_not(
    config: TrainConfig, dataset: Dataset
) -> None:
    limit = 2 * trace_step(config, dataset, null.fresh()).peak
    best = largest_batch(config, dataset, limit)
    assert best > config.batch_size
    for batch_size, fits in ((best, True), (best + 1, False)):
        changed = config.changed({"batch_size": batch_size})
        assert (trace_step(changed, dataset, null.fresh()).peak <= limit) == fits
    assert largest_batch(config, dataset, 1000) == 0


def test_no_larger_batch_than_that_is_tried(
    config: TrainConfig, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "MOST", 4)
    assert largest_batch(config, dataset, 1 << 60) == 4


@pytest.mark.parametrize(
    ("changes", "part"),
    [({"dtype": "float16"}, "--dtype float16"), ({"compile": False}, "--no-compile")],
)
def test_steps_that_are_not_compiled_have_no_program(
    config: TrainConfig, dataset: Dataset, changes: dict[str, object], part: str
) -> None:
    with pytest.raises(ConfigError, match=f"there is no program: with {part}"):
        trace_step(config.changed(changes), dataset, null.fresh())

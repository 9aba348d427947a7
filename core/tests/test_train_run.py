"""Whole runs of a very small model: files, metrics, resuming, interrupts, failures."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup import optim
from groundup.errors import CheckpointError, ConfigError, DataError, NonFiniteError
from groundup.generate import Sampling, TextModel
from groundup.models.checkpoint import hf_weights
from groundup.serialization import load_arrays, save_arrays
from groundup.train import loop
from groundup.train.config import TrainConfig
from groundup.train.folder import RunFolder
from groundup.train.interrupt import Interrupt
from groundup.train.resume import resumed_config
from groundup.train.session import Session

TEXT = "she sells sea shells by the sea shore. the shells she sells are sea shells. " * 30
FILES = {
    "config.json", "tokenizer.json", "metrics.jsonl", "loss.png", "samples.txt",
    "model.safetensors", "state.safetensors",
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    data = tmp_path / "text.txt"
    data.write_text(TEXT)
    return TrainConfig(
        n_layer=1, n_head=2, n_embd=16, block_size=16, dropout=0.1, data=(data,), tokenizer="char",
        batch_size=4, max_iters=12, lr_decay_iters=12, warmup_iters=2, learning_rate=1e-2,
        eval_interval=5, eval_iters=2, log_interval=2, sample_tokens=8, out=tmp_path / "run",
    )  # fmt: skip


def lines(folder: Path | None) -> list[dict[str, Any]]:
    assert folder is not None
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path | None) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in lines(folder)}


def weights(folder: Path | None) -> Mapping[str, Any]:
    assert folder is not None
    return load_arrays(folder / "state.safetensors")[0]


def same_state(one: Path | None, other: Path | None) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_run(config: TrainConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert loop.run(config) == 0
    out = config.out
    assert out is not None
    assert {path.name for path in out.iterdir()} == FILES
    found = lines(out)
    assert [line["step"] for line in found] == [1, 2, 4, 5, 6, 8, 10, 12]
    assert [line["step"] for line in found if "val_loss" in line] == [5, 10, 12]
    for line in found:
        assert line.keys() - {"val_loss"} == {
            "step", "loss", "lr", "grad_norm", "tokens_per_second"
        }  # fmt: skip
        assert all(math.isfinite(value) for value in line.values())
    assert abs(found[0]["loss"] - math.log(len(set(TEXT)))) < 0.1
    assert found[-1]["loss"] < found[0]["loss"]
    assert found[0]["lr"] == pytest.approx(5e-3)
    samples = (out / "samples.txt").read_text()
    assert samples.count("=== step") == 3
    printed = capsys.readouterr().out
    start = printed.splitlines()[0]
    for part in ("device cpu (", "float32 (", "parameters", "training and", "text.txt", "native "):
        assert part in start, part
    assert "step 12/12" in printed
    assert "bits per byte" in printed


def test_what_a_run_leaves_can_be_generated_from(config: TrainConfig) -> None:
    loop.run(config)
    assert config.out is not None
    model = TextModel.load(config.out)
    text = "".join(model.generate("she ", max_new_tokens=20, sampling=Sampling(), seed=0))
    assert len(text) == 20
    record = json.loads((config.out / "config.json").read_text())
    assert record["model_type"] == "gpt2"
    assert record["train"]["max_iters"] == 12


def test_two_runs_are_bit_identical(config: TrainConfig, tmp_path: Path) -> None:
    loop.run(config)
    again = config.changed({"out": tmp_path / "again"})
    loop.run(again)
    assert losses(config.out) == losses(again.out)
    assert same_state(config.out, again.out)
    other = config.changed({"out": tmp_path / "other", "seed": 1})
    loop.run(other)
    assert losses(config.out)[1] != losses(other.out)[1]


@pytest.mark.parametrize("stop", [5, 7])
def test_resuming_is_bit_identical(config: TrainConfig, tmp_path: Path, stop: int) -> None:
    """Dropout draws, batches, optimizer and schedule all go on where they were."""
    loop.run(config)
    part = config.changed({"out": tmp_path / "part", "max_iters": stop})
    loop.run(part)
    assert part.out is not None
    loop.run(resumed_config(part.out, {"max_iters": 12}), resume=True)
    whole, resumed = losses(config.out), losses(part.out)
    assert {step: resumed[step] for step in whole} == whole
    assert same_state(config.out, part.out)
    validated = {line["step"]: line["val_loss"] for line in lines(config.out) if "val_loss" in line}
    again = {line["step"]: line["val_loss"] for line in lines(part.out) if "val_loss" in line}
    assert {step: again[step] for step in validated} == validated


def test_a_crash_after_the_last_save_loses_nothing(config: TrainConfig, tmp_path: Path) -> None:
    loop.run(config)
    crashed = config.changed({"out": tmp_path / "crashed", "max_iters": 5})
    loop.run(crashed)
    assert crashed.out is not None
    with (crashed.out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "loss": 99.0}\n{"step": 8, "lo')
    loop.run(resumed_config(crashed.out, {"max_iters": 12}), resume=True)
    assert losses(crashed.out) == losses(config.out)


def test_gradient_accumulation(config: TrainConfig, tmp_path: Path) -> None:
    """Two micro-steps of 4 see other windows than one of 8, but as many, and learn as well."""
    changes = {"gradient_accumulation_steps": 2, "out": tmp_path / "two", "dropout": 0.0}
    two = config.changed(changes)
    loop.run(two)
    assert two.tokens_per_step == 128
    assert losses(two.out)[12] < losses(two.out)[1]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_dtypes(config: TrainConfig, tmp_path: Path, dtype: str) -> None:
    loop.run(config)
    narrow = config.changed({"dtype": dtype, "out": tmp_path / dtype})
    loop.run(narrow)
    wide, found = losses(config.out), losses(narrow.out)
    assert found != wide
    assert found[1] == pytest.approx(wide[1], rel=0.02)
    assert found[12] == pytest.approx(wide[12], rel=0.1)
    part = config.changed({"dtype": dtype, "out": tmp_path / "part", "max_iters": 7})
    loop.run(part)
    assert part.out is not None
    loop.run(resumed_config(part.out, {"max_iters": 12}), resume=True)
    assert same_state(narrow.out, part.out)


def test_without_validation_samples_or_tokenizer(config: TrainConfig) -> None:
    loop.run(config.changed({"val_fraction": 0.0, "sample_tokens": 0}))
    assert not any("val_loss" in line for line in lines(config.out))
    assert config.out is not None
    assert not (config.out / "samples.txt").exists()


def test_only_the_best_weights_are_kept(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation gets worse: model.safetensors stays at step 5, the state moves on to step 12."""
    worse = iter([2.0, 3.0, 4.0])
    monkeypatch.setattr(Session, "validate", lambda self: next(worse))
    loop.run(config.changed({"always_save_checkpoint": False}))
    kept = hf_weights(RunFolder(config.out).weights)  # type: ignore[arg-type]
    best = config.changed({"max_iters": 5, "out": config.data[0].parent / "best"})
    worse = iter([2.0])
    loop.run(best)
    name = "h.0.mlp.c_fc.weight"
    np.testing.assert_array_equal(kept[name], weights(best.out)[f"model.{name}"])
    assert not np.array_equal(kept[name], weights(config.out)[f"model.{name}"])


def test_the_last_weights_are_kept_where_nothing_tells_which_are_best(config: TrainConfig) -> None:
    loop.run(config.changed({"always_save_checkpoint": False, "val_fraction": 0.0}))
    kept = hf_weights(RunFolder(config.out).weights)  # type: ignore[arg-type]
    name = "h.0.mlp.c_fc.weight"
    np.testing.assert_array_equal(kept[name], weights(config.out)[f"model.{name}"])


def test_changes_on_resuming_last(config: TrainConfig) -> None:
    loop.run(config)
    assert config.out is not None
    loop.run(resumed_config(config.out, {"max_iters": 14}), resume=True)
    assert resumed_config(config.out, {}).max_iters == 14


def test_a_step_that_overflows_is_skipped(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss scale beyond float16's range: the first steps are left out, their norm is null."""
    monkeypatch.setattr(optim, "GradScaler", partial(optim.GradScaler, init_scale=2.0**24))
    loop.run(config.changed({"dtype": "float16", "log_interval": 1}))
    norms = [line["grad_norm"] for line in lines(config.out)]
    assert norms[0] is None
    assert norms[-1] is not None
    assert losses(config.out)[12] < losses(config.out)[1]


# ---- refusals ----


def test_another_runs_folder(config: TrainConfig) -> None:
    loop.run(config)
    assert config.out is not None
    before = {path.name: path.read_bytes() for path in config.out.iterdir()}
    with pytest.raises(ConfigError, match="holds a run already"):
        loop.run(config)
    assert {path.name: path.read_bytes() for path in config.out.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"block_size": 5000}, DataError, "the training data has 2052 tokens, but a context"),
        ({"block_size": 1000}, DataError, "the validation data has 228 tokens, but a context"),
        ({"data": "nowhere.txt"}, DataError, "cannot read nowhere.txt"),
        ({"device": "cpu:7"}, Exception, "there is no cpu:7"),
        ({"device": "gpu"}, Exception, "no backend named 'gpu'"),
    ],
)
def test_nothing_is_written_for_bad_input(
    config: TrainConfig, changes: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        loop.run(config.changed(changes))
    assert config.out is not None
    assert not config.out.exists()


@pytest.mark.skipif(os.name != "posix", reason="folders are locked on POSIX only")
def test_a_folder_where_another_process_trains(config: TrainConfig) -> None:
    loop.run(config)
    assert config.out is not None
    folder = RunFolder(config.out)
    before = {path.name: path.read_bytes() for path in config.out.iterdir()}
    more = resumed_config(config.out, {"max_iters": 14})
    with folder.alone(), pytest.raises(ConfigError, match="another process is training in"):
        loop.run(more, resume=True)
    assert {path.name: path.read_bytes() for path in config.out.iterdir()} == before
    loop.run(more, resume=True)


def test_another_run_that_begins_meanwhile(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found the folder free; the one that comes second to write must see the other's."""
    assert config.out is not None
    other = config.out / "state.safetensors"

    def create(folder: RunFolder) -> None:
        folder.path.mkdir()
        other.write_text("another run's")

    monkeypatch.setattr(RunFolder, "create", create)
    with pytest.raises(ConfigError, match="holds a run already"):
        loop.run(config)
    assert [path.read_text() for path in config.out.iterdir()] == ["another run's"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"step": "x"}, "holds no state of a run: TypeError"),
        ({"step": -5}, "holds no state of a run: ValueError"),
        ({"best_val_loss": "x"}, "holds no state of a run: TypeError"),
        ({"data": None}, "the data is not what the run began with"),
    ],
)
def test_a_state_with_impossible_values(
    config: TrainConfig, change: dict[str, object], text: str
) -> None:
    loop.run(config)
    assert config.out is not None
    path = config.out / "state.safetensors"
    arrays, metadata = load_arrays(path)
    record = json.loads(metadata["groundup"]) | change
    save_arrays(path, arrays, {"groundup": json.dumps(record)})
    with pytest.raises((CheckpointError, DataError), match=text):
        loop.run(resumed_config(config.out, {"max_iters": 20}), resume=True)


@pytest.mark.parametrize("part", ["model.", "optimizer.", "random"])
def test_a_state_that_lacks_a_part(config: TrainConfig, part: str) -> None:
    loop.run(config)
    assert config.out is not None
    path = config.out / "state.safetensors"
    arrays, metadata = load_arrays(path)
    save_arrays(path, {k: a for k, a in arrays.items() if not k.startswith(part)}, metadata)
    with pytest.raises(CheckpointError, match=r"state.safetensors holds no state of this run: "):
        loop.run(resumed_config(config.out, {"max_iters": 20}), resume=True)


def test_other_data_on_resuming(config: TrainConfig) -> None:
    loop.run(config)
    assert config.out is not None
    config.data[0].write_text(TEXT.replace("shore", "store"))
    with pytest.raises(DataError, match="the data is not what the run began with"):
        loop.run(resumed_config(config.out, {"max_iters": 20}), resume=True)


def test_a_damaged_state(config: TrainConfig) -> None:
    loop.run(config)
    assert config.out is not None
    state = config.out / "state.safetensors"
    whole = state.read_bytes()
    state.write_bytes(whole[:-50])
    with pytest.raises(CheckpointError, match="damaged"):
        loop.run(resumed_config(config.out, {"max_iters": 20}), resume=True)
    (config.out / "model.safetensors").replace(state)
    with pytest.raises(CheckpointError, match="holds no state of a run"):
        loop.run(resumed_config(config.out, {"max_iters": 20}), resume=True)
    assert losses(config.out).keys() == {1, 2, 4, 5, 6, 8, 10, 12}


def test_a_loss_that_is_not_finite(config: TrainConfig) -> None:
    wild = config.changed({"learning_rate": 1e30, "decay_lr": False, "grad_clip": 0.0})
    with pytest.raises(NonFiniteError, match=r"became (nan|inf) at step \d+ .*--learning-rate"):
        loop.run(wild)
    arrays = weights(config.out)
    assert all(np.isfinite(array).all() for array in arrays.values())


@contextmanager
def small_files_only(limit: int) -> Iterator[None]:
    """Let no file grow beyond `limit` bytes: what a full disk looks like to a program."""
    resource = pytest.importorskip("resource", reason="file size limits are POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk(config: TrainConfig, tmp_path: Path) -> None:
    """The state at step 5 holds moments and does not fit: that of step 0 stays, and is enough."""
    full = config.changed({"out": tmp_path / "full"})
    assert full.out is not None
    with (
        small_files_only(40_000),
        pytest.raises(CheckpointError, match=r"cannot write .*state\.safe"),
    ):
        loop.run(full)
    assert {path.name for path in full.out.iterdir()} == FILES - {"loss.png"}
    loop.run(resumed_config(full.out, {}), resume=True)
    loop.run(config)
    assert losses(full.out) == losses(config.out)


# ---- interrupts ----


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_can_be_resumed(
    config: TrainConfig, tmp_path: Path, sent: signal.Signals
) -> None:
    """A real process gets a real Ctrl-C in the middle; what it says and leaves must be right."""
    whole = config.changed({"max_iters": 400, "log_interval": 1, "eval_interval": 1000})
    part = whole.changed({"out": tmp_path / "part"})
    settings = tmp_path / "run.json"
    settings.write_text(json.dumps(part.record()))
    code = (
        "import json, sys; from groundup.train import config, loop; "
        "sys.exit(loop.run(config.from_record(json.load(open(sys.argv[1])), sys.argv[1])))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 3/"):
            process.send_signal(sent)
            break
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + sent, errors
    notice = "saving after this step; Ctrl-C again stops at once\n"
    assert errors == (notice if sent == signal.SIGINT else "")
    last = printed.splitlines()[-1]
    assert last.startswith("interrupted and saved at step")
    assert "groundup train --resume" in last
    step = max(losses(part.out))
    assert 3 <= step < 400
    assert part.out is not None
    loop.run(resumed_config(part.out, {"max_iters": step + 20}), resume=True)
    loop.run(whole.changed({"max_iters": step + 20}))
    assert losses(part.out) == losses(config.out)


def test_a_second_interrupt_is_not_held_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before

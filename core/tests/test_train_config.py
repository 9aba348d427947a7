"""Settings: presets, TOML, validation, the learning rate, and what a resumed run may change."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from groundup.errors import CheckpointError, ConfigError
from groundup.train.config import PRESETS, TrainConfig, flag, from_record, preset, read_toml
from groundup.train.resume import resumed_config
from groundup.train.schedule import learning_rate


def test_presets_are_what_they_are_named() -> None:
    small = preset("gpt-12m")
    assert (small.n_layer, small.n_head, small.n_embd) == (6, 6, 384)
    assert (small.block_size, small.vocab_size, small.tokenizer) == (256, 4096, "bpe")
    char = preset("shakespeare-char")
    assert (char.n_layer, char.n_embd, char.block_size, char.batch_size) == (6, 384, 256, 64)
    assert (char.tokenizer, char.dropout, char.bias) == ("char", 0.2, False)
    assert preset("tiny").out == Path("runs/tiny")
    with pytest.raises(ConfigError, match=r"no preset 'gpt-12' \(did you mean gpt-12m\?\)"):
        preset("gpt-12")
    with pytest.raises(ConfigError, match=r"presets: tiny, gpt-12m, shakespeare-char"):
        preset("x")


def test_every_setting_says_what_it_is() -> None:
    for field in dataclasses.fields(TrainConfig):
        assert field.metadata["help"], field.name
        assert field.metadata["group"] in ("Model", "Data", "Training", "Run")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"n_layer": 0}, "--n-layer must be at least 1, got 0"),
        ({"max_iters": 0}, "--max-iters must be at least 1, got 0"),
        ({"dropout": 1.0}, "--dropout must be at least 0 and below 1, got 1.0"),
        ({"val_fraction": -0.1}, "--val-fraction must be at least 0 and below 1"),
        ({"learning_rate": 0}, "--learning-rate must be above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "--learning-rate must be above 0, got nan"),
        ({"grad_clip": -1}, "--grad-clip must be at least 0"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"n_head": 3}, "--n-embd 160 is not a multiple of --n-head 3"),
        ({"n_layers": 3}, r"unknown setting 'n_layers' \(did you mean n_layer"),
        ({"n_layer": 3.0}, "n_layer must be of type int, got 3.0"),
        ({"n_layer": True}, "n_layer must be of type int, got True"),
        ({"bias": 1}, "bias must be of type bool, got 1"),
        ({"dtype": "float64"}, "dtype must be one of float32, bfloat16, float16, got 'float64'"),
        ({"data": 3}, "data must be of type tuple, got 3"),
    ],
)
def test_values_out_of_range(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        TrainConfig().changed(changes)


def test_toml(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('n-layer = 2\nlearning_rate = 1\ndata = ["a.txt", "b.txt"]\nout = "here"\n')
    config = TrainConfig().changed(read_toml(path))
    assert (config.n_layer, config.learning_rate) == (2, 1.0)
    assert config.data == (Path("a.txt"), Path("b.txt"))
    assert config.out == Path("here")
    path.write_text('data = "a.txt"\ndevice = "cpu"')
    assert read_toml(path) == {"data": (Path("a.txt"),), "device": "cpu"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"n_layers = 2", r"run.toml: unknown setting 'n_layers' \(did you mean n_layer"),
        (b"n_layer = 'two'", "run.toml: n_layer must be of type int, got 'two'"),
        (b"n_layer = 2\nn-layer = 3", "run.toml sets n_layer twice"),
        (b"n_layer = ", "run.toml is not TOML"),
        (b"# \xff", "run.toml is not TOML"),
        (b"[model]\nn_layer = 2", "run.toml: unknown setting 'model'"),
    ],
)
def test_bad_toml(tmp_path: Path, text: bytes, error: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=error):
        read_toml(path)
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        read_toml(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("name", PRESETS)
def test_a_record_gives_the_settings_back(name: str) -> None:
    config = preset(name).changed({"data": [Path("/a/b.txt")]})
    assert from_record(json.loads(json.dumps(config.record())), "config.json") == config
    with pytest.raises(CheckpointError, match=r"x\.json holds no settings of a run: unknown"):
        from_record({"depth": 3}, "x.json")


def test_data_paths_become_absolute() -> None:
    config = TrainConfig(data=(Path("a.txt"),))
    assert config.record()["data"] == [str(Path("a.txt").resolve())]


def test_learning_rate() -> None:
    config = TrainConfig(learning_rate=1.0, min_lr=0.1, warmup_iters=10, lr_decay_iters=110)
    assert [learning_rate(config, step) for step in (1, 5, 10)] == [0.1, 0.5, 1.0]
    assert learning_rate(config, 60) == pytest.approx(0.55)
    assert learning_rate(config, 35) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert [learning_rate(config, step) for step in (110, 1000)] == [0.1, 0.1]
    assert learning_rate(TrainConfig(decay_lr=False, learning_rate=0.5), 1) == 0.5
    cold = TrainConfig(learning_rate=1.0, min_lr=0.0, warmup_iters=0, lr_decay_iters=4)
    assert learning_rate(cold, 2) == pytest.approx(0.5)
    never = TrainConfig(learning_rate=1.0, min_lr=0.2, warmup_iters=5, lr_decay_iters=5)
    assert [learning_rate(never, step) for step in (5, 6)] == [1.0, 0.2]


def test_what_a_resumed_run_may_change(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no run to resume"):
        resumed_config(tmp_path, {})
    config = TrainConfig(n_layer=2)
    (tmp_path / "config.json").write_text(json.dumps({"train": config.record()}))
    with pytest.raises(CheckpointError, match="holds no saved state"):
        resumed_config(tmp_path, {})
    (tmp_path / "state.safetensors").touch()
    resumed = resumed_config(tmp_path, {"max_iters": 5000, "n_layer": 2})
    assert resumed == dataclasses.replace(config, max_iters=5000, out=tmp_path)
    with pytest.raises(ConfigError, match="a resumed run keeps its --n-layer 2, not 3"):
        resumed_config(tmp_path, {"n_layer": 3})
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(CheckpointError, match="holds no settings of a run"):
        resumed_config(tmp_path, {})


def test_spelling_of_flags() -> None:
    assert flag("gradient_accumulation_steps") == "--gradient-accumulation-steps"

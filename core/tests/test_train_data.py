"""What a run trains on, and the folder it writes to."""

import json
from pathlib import Path

import numpy as np
import pytest

from groundup.data import CharTokenizer, write_tokens
from groundup.errors import CheckpointError, ConfigError, DataError
from groundup.train.config import TrainConfig
from groundup.train.dataset import EMBEDDED, load_dataset
from groundup.train.folder import RunFolder
from groundup.train.plot import plot_losses

TEXT = "the quick brown fox jumps over the lazy dog. " * 40


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_text_is_split_by_position(text_file: Path) -> None:
    data = load_dataset(TrainConfig(data=(text_file,), tokenizer="char", val_fraction=0.25))
    assert data.tokenizer is not None
    assert data.vocab_size == len(set(TEXT))
    assert data.tokenizer.decode(data.train) == TEXT[: len(TEXT) * 3 // 4]
    assert data.tokenizer.decode(data.val) == TEXT[len(TEXT) * 3 // 4 :]
    assert data.source == "text.txt"
    assert data.bytes_per_token == 1.0


def test_byte_pairs_are_learned_from_the_training_part(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("aaaa bbbb " * 100 + "unseen" * 20)  # 1000 and 120 characters
    data = load_dataset(TrainConfig(data=(path,), vocab_size=300, val_fraction=0.12))
    assert data.tokenizer is not None
    assert "unseen" in data.tokenizer.decode(data.val)
    assert len(data.tokenizer.encode("unseen")) == 6  # none of its pairs was worth a merge
    assert len(data.tokenizer.encode("aaaa")) < 4
    assert data.bytes_per_token is not None
    assert data.bytes_per_token * len(data.val) == len(data.tokenizer.decode(data.val).encode())


def test_the_embedded_text_is_the_default() -> None:
    data = load_dataset(TrainConfig(tokenizer="char", val_fraction=0.0))
    assert data.source == EMBEDDED
    assert len(data.train) > 400_000
    assert len(data.val) == 0
    assert data.bytes_per_token is None


def test_a_resumed_run_keeps_its_tokenizer(text_file: Path) -> None:
    tokenizer = CharTokenizer(TEXT + "ABC")
    assert load_dataset(TrainConfig(data=(text_file,)), tokenizer).vocab_size == len(set(TEXT)) + 3


def test_a_saved_tokenizer(text_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    CharTokenizer(TEXT + "ABC").save(path)
    data = load_dataset(TrainConfig(data=(text_file,), tokenizer=str(path)))
    assert data.vocab_size == len(set(TEXT)) + 3
    with pytest.raises(ConfigError, match=r"'chars' is neither .* \(did you mean char\?\)"):
        load_dataset(TrainConfig(data=(text_file,), tokenizer="chars"))
    with pytest.raises(CheckpointError, match="cannot read"):
        load_dataset(TrainConfig(data=(text_file,), tokenizer=str(tmp_path / "none.json")))


def test_token_files(tmp_path: Path) -> None:
    path = tmp_path / "t.bin"
    write_tokens(path, np.arange(1000) % 50)
    data = load_dataset(TrainConfig(data=(path,), vocab_size=50))
    assert (len(data.train), len(data.val), data.vocab_size) == (900, 100, 50)
    assert data.tokenizer is None
    assert data.bytes_per_token is None
    with pytest.raises(DataError, match=r"token id 40 at position 40 .* --vocab-size"):
        load_dataset(TrainConfig(data=(path,), vocab_size=40))
    with pytest.raises(DataError, match="must be the only data file"):
        load_dataset(TrainConfig(data=(path, path), vocab_size=50))
    tokenizer = tmp_path / "t.json"
    CharTokenizer("".join(map(chr, range(60)))).save(tokenizer)
    data = load_dataset(TrainConfig(data=(path,), tokenizer=str(tokenizer)))
    assert data.vocab_size == 60
    assert data.tokenizer is not None


def test_the_fingerprint_sees_every_token(text_file: Path) -> None:
    config = TrainConfig(data=(text_file,), tokenizer="char")
    before = load_dataset(config).fingerprint
    assert load_dataset(config).fingerprint == before
    text_file.write_text(TEXT.replace("lazy", "zaly", 1))
    assert load_dataset(config).fingerprint != before
    text_file.write_text(TEXT)
    assert load_dataset(config.changed({"val_fraction": 0.2})).fingerprint != before


# ---- the folder ----


def test_a_folder_that_is_free(tmp_path: Path) -> None:
    RunFolder(tmp_path).check_free()
    folder = RunFolder(tmp_path / "a" / "b")
    folder.check_free()
    folder.create()
    assert folder.path.is_dir()


def test_a_folder_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is not empty \(choose another --out\)"):
        RunFolder(tmp_path).check_free()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"holds a model \(choose another --out\)"):
        RunFolder(tmp_path).check_free()  # without a state, --resume would be no way out
    (tmp_path / "state.safetensors").touch()
    with pytest.raises(ConfigError, match=r"holds a run already \(continue it with --resume"):
        RunFolder(tmp_path).check_free()
    with pytest.raises(ConfigError, match=r"notes.txt is a file"):
        RunFolder(tmp_path / "notes.txt").check_free()
    with pytest.raises(CheckpointError, match=r"cannot make .*: Not a directory"):
        RunFolder(tmp_path / "notes.txt" / "run").create()


def test_metrics_are_truncated_to_the_resumed_step(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_metrics() == []
    for step in (1, 5, 10, 15):
        folder.append_metrics({"step": step, "loss": step / 3})
    with folder.metrics.open("a") as file:
        file.write('{"step": 20, "lo')  # the machine went down here
    folder.truncate(10)
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert lines == [{"step": step, "loss": step / 3} for step in (1, 5, 10)]


def test_lines_of_metrics_that_are_none_are_left_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append_metrics({"step": 1, "loss": 2.0})
    folder.append_metrics({"step": "x"})
    with folder.metrics.open("a") as file:
        file.write("garbage{\n[1]\n")
    folder.truncate(10)
    assert folder.read_metrics() == [{"step": 1, "loss": 2.0}]


def test_what_a_killed_run_left_half_written_is_swept(tmp_path: Path) -> None:
    kept = ["state.safetensors", ".gitignore", ".tmpdir", ".notes.0123abcd.txt", "loss.png"]
    for name in [*kept, ".state.0123abcd.safetensors", ".loss.738cc22c.png", ".tmpAb3dE9"]:
        (tmp_path / name).touch()
    RunFolder(tmp_path).sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_samples_are_truncated_too(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (100, 200, 1000):
        folder.append_sample(step, "===", f"text of {step}\n=== steps are fun")
    folder.truncate(200)
    text = folder.samples.read_text()
    assert "text of 200" in text
    assert "1000" not in text


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    path = tmp_path / "loss.png"
    plot_losses([], path)
    plot_losses([{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "val_loss": 2.5}], path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]

from pathlib import Path

import numpy as np
import pytest

from groundup.data import check_ids, open_tokens, split_by_position, write_tokens
from groundup.errors import CheckpointError, ConfigError, DataError


def test_the_last_part_is_for_validation() -> None:
    tokens = np.arange(100, dtype=np.int32)
    train, val = split_by_position(tokens, 0.1)
    assert train.tolist() == list(range(90))
    assert val.tolist() == list(range(90, 100))
    assert np.shares_memory(train, tokens)
    assert np.shares_memory(val, tokens)


def test_the_cut_is_nanogpt_s() -> None:
    train, _ = split_by_position(np.zeros(1_115_394, np.uint16), 0.1)
    assert len(train) == int(1_115_394 * 0.9) == 1_003_854


def test_no_validation_is_allowed() -> None:
    train, val = split_by_position(np.arange(7), 0)
    assert (len(train), len(val)) == (7, 0)


@pytest.mark.parametrize("fraction", [-0.1, 1, 2.5, float("nan")])
def test_other_fractions_are_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match=rf"below 1, got {fraction}"):
        split_by_position(np.arange(7), fraction)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_tokens_come_back_through_a_file(tmp_path: Path, dtype: type[np.integer]) -> None:
    tokens = np.array([0, 1, 258, 65535], np.uint16).astype(dtype)
    if dtype is not np.uint16:
        tokens = np.repeat(tokens, 2)[::2]  # any strides
    write_tokens(tmp_path / "train.bin", tokens)
    assert (tmp_path / "train.bin").read_bytes() == b"\x00\x00\x01\x00\x02\x01\xff\xff"
    loaded = open_tokens(tmp_path / "train.bin")
    assert loaded.dtype == np.uint16
    assert loaded.tolist() == [0, 1, 258, 65535]


def test_an_opened_file_is_mapped_and_read_only(tmp_path: Path) -> None:
    write_tokens(tmp_path / "train.bin", np.arange(10))
    tokens = open_tokens(str(tmp_path / "train.bin"))
    assert isinstance(tokens, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        tokens[0] = 1


@pytest.mark.parametrize("bad", [65536, -1])
def test_ids_that_do_not_fit_are_not_written(tmp_path: Path, bad: int) -> None:
    with pytest.raises(DataError, match=f"token id {bad} at position 1 .* of 65536"):
        write_tokens(tmp_path / "train.bin", np.array([0, bad]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tokens", [np.zeros(0, np.int32), np.zeros((2, 2), np.int32)], ids=str)
def test_only_a_row_of_tokens_is_written(tmp_path: Path, tokens: np.ndarray) -> None:
    with pytest.raises(DataError, match="non-empty row, got shape"):
        write_tokens(tmp_path / "train.bin", tokens)


def test_a_missing_folder_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot write"):
        write_tokens(tmp_path / "nowhere" / "train.bin", np.arange(3))


@pytest.mark.parametrize(
    ("content", "wrong"), [(b"", "is empty"), (b"abc", "has 3 bytes, an odd number")]
)
def test_a_damaged_token_file_is_an_error(tmp_path: Path, content: bytes, wrong: str) -> None:
    path = tmp_path / "train.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"train\.bin {wrong}"):
        open_tokens(path)


def test_a_missing_token_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*train\.bin: No such file"):
        open_tokens(tmp_path / "train.bin")
    with pytest.raises(DataError, match=f"cannot read {tmp_path}"):
        open_tokens(tmp_path)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (0,)])
def test_known_ids_pass(shape: tuple[int, ...]) -> None:
    check_ids(np.resize(np.arange(6), shape), 6)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (np.array([5, 6, 7]), "token id 6 at position 1 is outside the vocabulary of 6"),
        (np.array([[0, 0], [-1, 9]]), "token id -1 at position 2 is outside the vocabulary of 6"),
        (np.array([0, 65535], np.uint16), "token id 65535 at position 1 is outside"),
        (np.array([0.0]), "token ids must be integers, got float64"),
    ],
    ids=["large", "negative", "unsigned", "float"],
)
def test_an_unknown_id_is_named(tokens: np.ndarray, text: str) -> None:
    with pytest.raises(DataError, match=text):
        check_ids(tokens, 6)

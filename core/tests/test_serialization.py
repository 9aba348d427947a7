import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from groundup.data import write_tokens
from groundup.errors import CheckpointError
from groundup.serialization import Array, load_arrays, read_json, save_arrays, write_json

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", ml_dtypes.bfloat16, "float32", "float64")


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


def round_trip(path: Path, array: Array) -> Array:
    save_arrays(path, {"a": array})
    return load_arrays(path)[0]["a"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_arrays(path, {"w": np.arange(12, dtype=np.float32), "b": np.ones(3, np.float16)})
    return path


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4), (1,)], ids=str)
def test_arrays_come_back_bit_for_bit(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    array = np.asarray(rng.integers(0, 2 if dtype == "bool" else 100, shape)).astype(dtype)
    loaded = round_trip(tmp_path / "a.safetensors", array)
    assert loaded.dtype == array.dtype
    assert loaded.shape == array.shape
    assert loaded.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_special_floats_come_back_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-7]).astype(dtype)
    assert round_trip(tmp_path / "a.safetensors", array).tobytes() == array.tobytes()


def test_views_of_any_strides_are_written_in_their_own_order(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    views = {
        "transposed": base.T,
        "sliced": base[1:, ::2],
        "reversed": base[::-1],
        "expanded": np.broadcast_to(base[0], (3, 6)),
        "big_endian": base.astype(">f4"),
        "bfloat16": base.astype(ml_dtypes.bfloat16).T,
    }
    save_arrays(tmp_path / "a.safetensors", views)
    loaded, _ = load_arrays(tmp_path / "a.safetensors")
    assert loaded.keys() == views.keys()
    for name, view in views.items():
        np.testing.assert_array_equal(loaded[name], view, err_msg=name)


def test_metadata_and_names_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    metadata = {"format": "pt", "note": 'naïve "quotes"\nand lines'}
    save_arrays(path, {"transformer.h.0.ln_1.weight": np.ones(2)}, metadata)
    arrays, loaded = load_arrays(path)
    assert list(arrays) == ["transformer.h.0.ln_1.weight"]
    assert loaded == metadata


def test_no_arrays_and_no_metadata_are_fine(tmp_path: Path) -> None:
    save_arrays(tmp_path / "a.safetensors", {})
    assert load_arrays(tmp_path / "a.safetensors") == ({}, {})


def test_loaded_arrays_are_ours_to_change_and_outlive_the_file(weights: Path) -> None:
    arrays, _ = load_arrays(weights)
    save_arrays(weights, {"w": np.zeros(12, np.float32)})
    arrays["w"] += 1
    np.testing.assert_array_equal(arrays["w"], np.arange(1, 13))


def test_the_file_is_one_that_safetensors_itself_reads(weights: Path) -> None:
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(weights)["w"], np.arange(12))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_others_may_read_the_file_as_any_other(weights: Path) -> None:
    plain = weights.with_name("plain")
    plain.write_text("x")
    assert weights.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    "array",
    [np.array(["text"]), np.array([None]), np.zeros(2, complex), np.zeros(2, "datetime64[s]")],
    ids=["str", "object", "complex", "datetime"],
)
def test_other_dtypes_are_refused_and_nothing_is_written(weights: Path, array: Array) -> None:
    before = weights.read_bytes()
    with pytest.raises(CheckpointError, match="'odd' has dtype"):
        save_arrays(weights, {"w": np.ones(1), "odd": array})
    assert weights.read_bytes() == before


def test_the_reserved_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'__metadata__' is reserved"):
        save_arrays(tmp_path / "a.safetensors", {"__metadata__": np.ones(1)})
    assert list(tmp_path.iterdir()) == []


def every_cut(data: bytes) -> list[bytes]:
    return [data[:length] for length in range(len(data))]


def test_a_file_cut_short_anywhere_is_a_typed_error(weights: Path) -> None:
    for damaged in every_cut(weights.read_bytes()):
        weights.write_bytes(damaged)
        with pytest.raises(
            CheckpointError, match=r"model\.safetensors is damaged or not"
        ) as caught:
            load_arrays(weights)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}q\x00." * 20,
        b"PK\x03\x04" + bytes(200),
        b'{"a": 1}',
        (10).to_bytes(8, "little") + b"not header",
        bytes(64),
        b"\xff" * 64,
    ],
    ids=["pickle", "zip", "json", "bad header", "zeros", "ones"],
)
def test_a_foreign_file_is_a_typed_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged or not a safetensors file: \w+"):
        load_arrays(path)


def test_trailing_bytes_are_damage(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        load_arrays(weights)


def test_an_unknown_dtype_is_named(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x00\x00")
    with pytest.raises(CheckpointError, match="cannot read 'w', its dtype is F8_E4M3"):
        load_arrays(path)


@pytest.mark.parametrize("read", [load_arrays, read_json])
def test_a_missing_file_and_a_folder_are_named(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*nowhere: No such file"):
        read(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=f"cannot read {tmp_path}"):
        read(tmp_path)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_arrays(path, {"w": np.zeros(10_000, np.float32)}),
        lambda path: write_json(path, {"text": "x" * 10_000}),
        lambda path: write_tokens(path, np.zeros(10_000, np.int32)),
    ],
    ids=["safetensors", "json", "tokens"],
)
def test_a_full_disk_is_a_typed_error_and_the_old_file_stays(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with small_files_only(4096), pytest.raises(CheckpointError) as caught:
        write(target)
    assert f"cannot write {target}: " in str(caught.value)
    assert "too large" in str(caught.value)  # the words for this limit; a full disk has its own
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
    write(target)
    assert target.stat().st_size > 4096


def test_safetensors_in_a_missing_folder_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot write"):
        save_arrays(tmp_path / "nowhere" / "a.safetensors", {"w": np.ones(1)})


def test_json_comes_back_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    record = {
        "z": 1,
        "a": [0.1, 1e-8, True, None],
        "text": "naïve \ud800 日本",
        "nested": {"k": {}},
    }
    write_json(path, record)
    loaded = read_json(path)
    assert loaded == record
    assert list(loaded) == list(record)
    assert path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1, 2}, np.float32(1), Path()], ids=repr
)
def test_values_without_a_json_form_are_refused(tmp_path: Path, value: object) -> None:
    path = tmp_path / "config.json"
    write_json(path, {"old": 1})
    with pytest.raises(CheckpointError, match=r"cannot write .*config\.json as JSON"):
        write_json(path, {"new": value})
    assert read_json(path) == {"old": 1}


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "not JSON: Expecting value"),
        (b'{"a": 1', "not JSON: .*line 1 column 8"),
        (b'{"a": 1}}', "not JSON: Extra data"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b"\x80\x02}q\x00.", "byte 0 is not UTF-8"),
        (b"[" * 100_000, "not JSON: .*recursion"),
        (b"[1, 2]", "a JSON list, not an object"),
        (b"null", "a JSON NoneType, not an object"),
    ],
    ids=["empty", "cut", "extra", "bytes", "pickle", "deep", "list", "null"],
)
def test_damaged_json_is_a_typed_error(tmp_path: Path, content: bytes, wrong: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"config\.json .*{wrong}"):
        read_json(path)


def test_heavy_libraries_are_not_imported_before_they_are_used() -> None:
    code = (
        "import sys, groundup.serialization, groundup.data;"
        "print(sorted({'safetensors', 'tokenizers', 'pydoc_data'} & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"

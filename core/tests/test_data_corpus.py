import os
import sys
from pathlib import Path

import pytest

from groundup.data import embedded_corpus, load_text
from groundup.errors import DataError


def test_the_embedded_corpus_is_python_s_own_reference() -> None:
    text = embedded_corpus()
    assert text.startswith('The "assert" statement\n')
    assert 400_000 < len(text) < 600_000
    assert 90 < len(set(text)) < 120  # characters, so that a character model stays small
    assert text == embedded_corpus()


def test_a_python_without_the_embedded_corpus_is_a_typed_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"without pydoc_data\.topics.* \(train on a text file"):
        embedded_corpus()


def test_files_are_joined_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("naïve".encode())
    (tmp_path / "a.txt").write_bytes(b"second\n")
    assert load_text([tmp_path / "b.txt", str(tmp_path / "a.txt")]) == "naïve\nsecond\n"


def test_windows_line_ends_and_byte_order_marks_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert load_text([tmp_path / "a.txt"]) == "one\ntwo\rthree\n"


def test_no_files_is_an_error() -> None:
    with pytest.raises(DataError, match="no data files"):
        load_text([])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("x")
    with pytest.raises(DataError, match=r"cannot read .*nowhere\.txt: No such file"):
        load_text([tmp_path / "there.txt", tmp_path / "nowhere.txt"])


def test_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"cannot read {tmp_path}: "):
        load_text([tmp_path])


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(DataError, match=r"cannot read .*secret\.txt: Permission denied"):
        load_text([path])


@pytest.mark.parametrize(
    ("content", "byte", "offset"),
    [(b"caf\xe9 au lait", "0xe9", 3), ("text".encode("utf-16"), "0xff", 0), (b"ab\xc3", "0xc3", 2)],
    ids=["latin-1", "utf-16", "cut"],
)
def test_text_that_is_not_utf8_is_an_error_with_the_offset(
    tmp_path: Path, content: bytes, byte: str, offset: int
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_text([path])
    expected = f"{path} is not UTF-8 text: byte {byte} at offset {offset} (save the file as UTF-8)"
    assert str(caught.value) == expected


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"], ids=["empty", "only a mark"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.txt is empty"):
        load_text([path])

import errno
import os
import sys
from pathlib import Path

import pytest

from groundup.errors import CheckpointError
from groundup.files import atomic_write

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def write(target: Path, interruption: BaseException | None = None) -> None:
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        if interruption:
            raise interruption


def test_the_file_appears_whole_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "config.json"
    with atomic_write(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert names(tmp_path) == ["config.json"]


def test_the_temporary_file_is_a_neighbour_with_the_same_suffix(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "loss.png") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"
        assert temporary.name != "loss.png"


def test_a_string_is_a_path_too(tmp_path: Path) -> None:
    with atomic_write(str(tmp_path / "a.txt")) as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_block_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    target = tmp_path / "state.json"
    target.write_text("old")
    with pytest.raises(interruption):
        write(target, interruption())
    assert target.read_text() == "old"
    assert names(tmp_path) == ["state.json"]


def test_a_disk_that_is_full_at_the_flush_is_a_typed_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / "state.json"
    target.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError) as caught:
        write(target)
    assert str(caught.value) == f"cannot write {target}: {os.strerror(errno.ENOSPC)}"
    assert target.read_text() == "old"
    assert names(tmp_path) == ["state.json"]


def test_a_missing_folder_is_a_typed_error(tmp_path: Path) -> None:
    target = tmp_path / "nowhere" / "a.txt"
    with pytest.raises(CheckpointError, match=r"cannot write .*a\.txt: No such file"):
        write(target)
    assert names(tmp_path) == []


def test_a_file_in_the_place_of_the_folder_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("I am a file")
    with pytest.raises(CheckpointError, match=r"cannot write .*a\.txt"):
        write(tmp_path / "run" / "a.txt")


def test_a_folder_in_the_place_of_the_file_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(CheckpointError, match=r"cannot write .*a\.txt"):
        write(tmp_path / "a.txt")
    assert names(tmp_path) == ["a.txt"]


@posix_only
def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "a.txt"
    link.symlink_to(tmp_path / "real" / "a.txt")
    with atomic_write(link) as temporary:
        temporary.write_text("x")
    assert link.is_symlink()
    assert (tmp_path / "real" / "a.txt").read_text() == "x"


@posix_only
def test_the_mode_is_that_of_any_new_file_even_if_the_writer_replaces_it(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    private = tmp_path / "private"
    private.write_text("x")
    private.chmod(0o600)
    with atomic_write(tmp_path / "a.txt") as temporary:
        private.replace(temporary)
    assert (tmp_path / "a.txt").stat().st_mode == plain.stat().st_mode

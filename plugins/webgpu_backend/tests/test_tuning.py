"""The table of tiles: measured once, kept on disk, chosen by a variable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import groundup as g
from groundup.errors import ConfigError, KernelCompileError, OutOfMemory
from groundup_webgpu import device
from groundup_webgpu.sides import Product, Side
from groundup_webgpu.tiles import GUESSED, Tile, best_cut
from groundup_webgpu.tuning import VARIABLE, rated_tiles

ADAPTER = {"device": "a card", "description": "driver 1.0"}
LARGE = (4096, 4096, 4096)


class Clock:
    """Says that the tile named takes a tenth of the time of all others, and counts questions."""

    def __init__(self, quick: str) -> None:
        self.quick = quick
        self.asked: list[str] = []

    def __call__(self, tile: Tile) -> float:
        self.asked.append(str(tile))
        return 1e-4 if str(tile) == self.quick else 1e-3


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GROUNDUP_CACHE", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def test_measured_once_and_kept(cache: Path) -> None:
    clock = Clock("64x64x16x1")
    found = rated_tiles(GUESSED, ADAPTER, clock)
    assert clock.asked == [str(each.tile) for each in GUESSED] * 2
    assert str(best_cut(found, 1 << 16, LARGE, 1).tile) == "64x64x16x1"
    assert rated_tiles(GUESSED, ADAPTER, clock) == found
    assert len(clock.asked) == 2 * len(GUESSED), "read from disk"
    (file,) = (cache / "webgpu").iterdir()
    kept = json.loads(file.read_text())
    assert kept["adapter"] == ADAPTER
    assert kept["operations per second"]["64x64x16x1"] == 1.7e14, "2 * 2**33 in 0.1 ms"


def test_a_device_that_was_idle_is_slow_at_first() -> None:
    """The first tile is as quick as the others, but was measured while the device woke up."""
    times = iter([0.1, *[1e-3] * (2 * len(GUESSED) - 1)])
    found = rated_tiles(GUESSED, ADAPTER, lambda tile: next(times))
    assert len({each.rate for each in found}) == 1
    assert best_cut(found, 1 << 15, LARGE, 1).tile == GUESSED[0].tile, "the first of equals"


def test_each_driver_has_its_own(cache: Path) -> None:
    clock = Clock("64x64x16x1")
    rated_tiles(GUESSED, ADAPTER, clock)
    rated_tiles(GUESSED, {**ADAPTER, "description": "driver 1.1"}, clock)
    rated_tiles(GUESSED[:2], ADAPTER, clock)
    assert len(list((cache / "webgpu").iterdir())) == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"operations per second": {"a": "NaN"}}'])
def test_a_file_that_makes_no_sense_is_written_anew(cache: Path, text: str) -> None:
    clock = Clock("64x64x16x1")
    found = rated_tiles(GUESSED, ADAPTER, clock)
    (file,) = (cache / "webgpu").iterdir()
    file.write_text(text)
    assert rated_tiles(GUESSED, ADAPTER, clock) == found
    assert len(clock.asked) == 4 * len(GUESSED)
    assert json.loads(file.read_text())["adapter"] == ADAPTER


def test_a_folder_that_cannot_be_written(cache: Path) -> None:
    (cache / "webgpu").write_text("a file")
    assert len(rated_tiles(GUESSED, ADAPTER, Clock("64x64x16x1"))) == len(GUESSED)


def test_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock("64x64x16x1")
    monkeypatch.setenv(VARIABLE, "guessed")
    assert rated_tiles(GUESSED, ADAPTER, clock) == GUESSED
    monkeypatch.setenv(VARIABLE, "measured")
    for _ in range(2):
        rated_tiles(GUESSED, ADAPTER, clock)
    assert len(clock.asked) == 4 * len(GUESSED)
    monkeypatch.setenv(VARIABLE, "32x128x16x1,64x64x16x1")
    named = rated_tiles(GUESSED, ADAPTER, None)
    assert [str(each.tile) for each in named] == ["32x128x16x1", "64x64x16x1"]
    assert str(best_cut(named, 1 << 16, LARGE, 1).tile) == "32x128x16x1"
    monkeypatch.setenv(VARIABLE, "32x128x16x1,7x7")
    with pytest.raises(ConfigError, match="no tile '7x7' here"):
        rated_tiles(GUESSED, ADAPTER, None)


def test_what_a_driver_cannot_do() -> None:
    def some(tile: Tile) -> float:
        if tile.buffers == 2:
            raise KernelCompileError("too much memory of workgroups")
        return 1e-3

    found = rated_tiles(GUESSED, ADAPTER, some)
    assert {each.tile for each in found} == {e.tile for e in GUESSED if e.tile.buffers == 1}

    def none(tile: Tile) -> float:
        raise OutOfMemory("taken by others")

    assert rated_tiles(GUESSED, {"device": "another"}, none) == GUESSED


def test_nobody_can_tell(cache: Path) -> None:
    assert rated_tiles(GUESSED, ADAPTER, None) == GUESSED
    assert not list(cache.iterdir())


def test_software_is_not_measured(portable_device: Any) -> None:
    assert portable_device.machine.tiles == GUESSED
    portable_device.tune()
    assert portable_device.machine.tiles == portable_device.machine.rated


def test_a_tile_is_timed(portable_device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small product in place of PROBLEM."""
    if "timer" not in portable_device.info.features:
        pytest.skip("the adapter has no timestamps")
    small = Product(g.float32, Side(70, 40, 1, ()), Side(80, 1, 80, ()), (), 40)
    monkeypatch.setattr(device, "PROBLEM", small)
    monkeypatch.setattr(device, "is_software", lambda adapter: False)
    portable_device.tune()
    rates = portable_device.machine.tiles
    assert [each.tile for each in rates] == [r.tile for r in GUESSED if r.tile.memory <= 1024]
    assert all(each.rate > 0 for each in rates)

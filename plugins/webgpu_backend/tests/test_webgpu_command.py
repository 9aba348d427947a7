"""`groundup webgpu` shows rungs and tiles."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from groundup.cli import app
from groundup_webgpu.backend import WebGpuBackend
from groundup_webgpu.tiles import Rated, Tile


def test_rungs_and_tiles(portable_device: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tiles = Rated(Tile(64, 64), 2.5e13), Rated(Tile(128, 64), 0.5)
    portable_device.machine = attrs.evolve(portable_device.machine, tiles=tiles)
    assert app.run(["webgpu"]) == 0
    first, rungs, workgroups, *rest = capsys.readouterr().out.splitlines()
    assert first == f"webgpu:0: {portable_device.info.description}"
    assert rungs.startswith("    rungs: ")
    assert all(rung in rungs for rung in portable_device.info.features - {"timer"})
    assert workgroups == "    workgroups: 16,384 bytes of memory, 8 buffers"
    assert rest == [
        "    tile 64x64x16x1         25.00 TFLOP/s",
        "    tile 128x64x16x1        not measured, 0.5",
    ]


def test_a_software_driver(machine_device: Any, capsys: pytest.CaptureFixture[str]) -> None:
    app.run(["webgpu"])
    text = capsys.readouterr().out
    assert ("products by blocks" in text) == machine_device.machine.software
    assert ("tile 128x128x16x1 " in text) != machine_device.machine.software


def test_no_adapter(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(WebGpuBackend, "_found", [])
    assert app.run(["webgpu"]) != 0
    assert "there is no driver for a GPU" in capsys.readouterr().err

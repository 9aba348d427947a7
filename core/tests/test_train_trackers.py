"""`--tracker NAME`: metrics go to what a plugin brings; a broken tracker harms no run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from groundup.errors import ConfigError
from groundup.train.config import TrainConfig
from groundup.train.trackers import Tracking, open_tracking

PLUGIN = """
from groundup import hookimpl

class Notes:
    def __init__(self, config):
        self.lines = [f"seed {config.seed}"]
    def log(self, step, metrics):
        self.lines.append(f"{step} {metrics['loss']:.3f}")
    def finish(self):
        open("notes.txt", "w").write("\\n".join(self.lines))

@hookimpl
def groundup_trackers():
    return {"notes": Notes}
"""
SIZES = {"n-layer": 1, "n-head": 1, "n-embd": 8, "block-size": 8, "batch-size": 2, "max-iters": 2}
FLAGS = [part for name, size in SIZES.items() for part in (f"--{name}", str(size))]


def test_a_plugins_tracker_gets_every_line(tmp_path: Path) -> None:
    (tmp_path / "notes_plugin.py").write_text(PLUGIN)
    info = tmp_path / "notes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: notes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[groundup]\nnotes = notes_plugin\n")
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 40)
    command = [sys.executable, "-m", "groundup", "train", "--tracker", "notes", "--tokenizer"]
    command += ["char", "--data", "text.txt", "--log-interval", "1", "--seed", "5", *FLAGS]
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    first, *lines = (tmp_path / "notes.txt").read_text().splitlines()
    assert first == "seed 5"
    assert [line.split()[0] for line in lines] == ["1", "2"]


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(ConfigError, match="no plugin brings a tracker named 'nowhere'"):
        open_tracking(TrainConfig(tracker="nowhere"))


def test_a_tracker_that_raises_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        calls = 0

        def log(self, step: int, metrics: object) -> None:
            Broken.calls += 1
            raise OSError("no network")

    tracking = Tracking(Broken(), "broken")
    tracking.log({"step": 1})
    tracking.log({"step": 2})
    tracking.finish()
    assert Broken.calls == 1
    assert "tracker broken dropped: OSError: no network" in caplog.text

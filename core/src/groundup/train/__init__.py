"""Training runs: settings, data, the loop, and the folder that a run leaves behind."""

from groundup.train.config import PRESETS, TrainConfig, preset, read_toml

__all__ = ["PRESETS", "TrainConfig", "preset", "read_toml"]

"""What a training run is made of: one frozen record, its presets, and the ways to change it.

Names are nanoGPT's. A run's settings are a preset's, changed by a TOML file, changed by flags, in
that order.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from groundup.errors import CheckpointError, ConfigError
from groundup.files import StrPath, reason
from groundup.suggest import did_you_mean

DTypeName = Literal["float32", "bfloat16", "float16"]


def setting(default: Any, group: str, help: str) -> Any:
    """A field with what `groundup train --help` says of it."""
    return dataclasses.field(default=default, metadata={"group": group, "help": help})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a run. Raises ConfigError, naming the flag, for a value out of range."""

    n_layer: int = setting(3, "Model", "transformer blocks")
    n_head: int = setting(5, "Model", "attention heads; divides n_embd")
    n_embd: int = setting(160, "Model", "width of the residual stream")
    block_size: int = setting(64, "Model", "context: the most tokens that the model sees at once")
    dropout: float = setting(0.0, "Model", "probability of zeroing an activation in training")
    bias: bool = setting(True, "Model", "biases in linear layers and layer norms")

    data: tuple[Path, ...] = setting(
        (), "Data", "UTF-8 text files, or one .bin file of uint16 tokens; default: the text of the"
        " Python language reference, which comes with Python"
    )  # fmt: skip
    val_fraction: float = setting(0.1, "Data", "the share of the data, at its end, to validate on")
    tokenizer: str = setting(
        "bpe", "Data", "char, bpe (byte pairs, learned from the data), or a tokenizer.json"
    )
    vocab_size: int = setting(1024, "Data", "how many byte pairs to learn; the ids of a .bin file")

    batch_size: int = setting(16, "Training", "sequences per step and micro-step")
    gradient_accumulation_steps: int = setting(1, "Training", "micro-steps per step")
    max_iters: int = setting(1000, "Training", "steps in all")
    learning_rate: float = setting(3e-3, "Training", "its maximum, after the warm-up")
    weight_decay: float = setting(0.1, "Training", "of matrices and embeddings, not of vectors")
    beta1: float = setting(0.9, "Training", "AdamW's decay of the mean gradient")
    beta2: float = setting(0.95, "Training", "AdamW's decay of the mean squared gradient")
    grad_clip: float = setting(1.0, "Training", "largest norm of the gradient; 0 for none")
    decay_lr: bool = setting(True, "Training", "warm up, then fall as a cosine to min_lr")
    warmup_iters: int = setting(50, "Training", "steps of linear warm-up")
    lr_decay_iters: int = setting(1000, "Training", "the step at which min_lr is reached")
    min_lr: float = setting(3e-4, "Training", "the learning rate at the end")

    eval_interval: int = setting(200, "Run", "steps between validations; each saves the run")
    eval_iters: int = setting(20, "Run", "batches per validation")
    log_interval: int = setting(10, "Run", "steps between lines of metrics.jsonl")
    always_save_checkpoint: bool = setting(
        True, "Run", "write model.safetensors at every save, not only when validation improves"
    )
    sample_prompt: str = setting("The", "Run", "how the samples of samples.txt begin")
    sample_tokens: int = setting(100, "Run", "tokens per sample; 0 for no samples")
    device: str | None = setting(None, "Run", 'such as "cpu" or "cuda:0"; default: the best one')
    dtype: DTypeName = setting(  # noqa: RUF009 - it calls field()
        "float32", "Run", "of matrix products; weights and optimizer stay float32"
    )
    compile: bool = setting(
        True, "Run", "trace each step once and replay it: the same numbers, sooner"
    )
    seed: int = setting(1337, "Run", "of weights, batches and dropout")
    tracker: str | None = setting(
        None, "Run", "another place for the metrics; a name that a plugin brings"
    )
    out: Path | None = setting(  # noqa: RUF009 - it calls field()
        None, "Run", "folder of the run; default: runs/PRESET"
    )

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in _NOT_NEGATIVE:
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("dropout", "val_fraction", "beta1", "beta2"):
            self._require(name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        self._require("learning_rate", self.learning_rate > 0, "above 0")
        self._require("seed", 0 <= self.seed < 2**64, "at least 0 and below 2^64")
        if self.n_embd % self.n_head:
            raise ConfigError(
                f"--n-embd {self.n_embd} is not a multiple of --n-head {self.n_head}",
                hint="every head gets n_embd / n_head channels",
            )

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ConfigError(f"{flag(name)} must be {wanted}, got {getattr(self, name)}")

    def changed(self, changes: Mapping[str, object]) -> TrainConfig:
        """A copy with `changes`. Raises ConfigError for an unknown name or an impossible value."""
        known = {name: _value(name, value) for name, value in changes.items()}
        return dataclasses.replace(self, **known)

    def record(self) -> dict[str, Any]:
        """Plain values for JSON; paths become absolute, so that a run can be resumed elsewhere."""
        record = dataclasses.asdict(self)
        record["data"] = [str(path.resolve()) for path in self.data]
        record["out"] = None if self.out is None else str(self.out)
        return record

    @property
    def tokens_per_step(self) -> int:
        """How many tokens one step trains on."""
        return self.batch_size * self.block_size * self.gradient_accumulation_steps


_AT_LEAST_ONE: Final = (
    "n_layer", "n_head", "n_embd", "block_size", "vocab_size", "batch_size", "max_iters",
    "gradient_accumulation_steps", "eval_interval", "eval_iters", "log_interval",
)  # fmt: skip
_NOT_NEGATIVE: Final = (
    "weight_decay", "grad_clip", "warmup_iters", "lr_decay_iters", "min_lr", "sample_tokens",
)  # fmt: skip

PRESETS: Final[Mapping[str, TrainConfig]] = {
    # Under three minutes on two CPU cores, and the text becomes recognisable English.
    "tiny": TrainConfig(),
    # 12.3 million parameters. The embedded text is small for it: the best weights are kept.
    "gpt-12m": TrainConfig(
        n_layer=6, n_head=6, n_embd=384, block_size=256, vocab_size=4096, dropout=0.2,
        batch_size=8, max_iters=1500, lr_decay_iters=1500, warmup_iters=100,
        learning_rate=1e-3, min_lr=1e-4, always_save_checkpoint=False,
    ),
    # nanoGPT's config/train_shakespeare_char.py; give the text with --data.
    "shakespeare-char": TrainConfig(
        n_layer=6, n_head=6, n_embd=384, block_size=256, tokenizer="char", dropout=0.2, bias=False,
        batch_size=64, max_iters=5000, lr_decay_iters=5000, warmup_iters=100,
        learning_rate=1e-3, min_lr=1e-4, beta2=0.99, eval_iters=200, sample_tokens=500,
        always_save_checkpoint=False,
    ),
}  # fmt: skip


def preset(name: str) -> TrainConfig:
    """The preset of that name, with its out folder. Raises ConfigError with near names."""
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS) or f"presets: {', '.join(PRESETS)}"
        if name.lower() in ("true", "false"):
            hint = "write a flag's truth with an equals sign, as in --bias=False"
        raise ConfigError(f"there is no preset {name!r}", hint=hint)
    return dataclasses.replace(PRESETS[name], out=Path("runs") / name)


def read_toml(path: StrPath) -> dict[str, object]:
    """The settings in a TOML file: `n_layer = 6`, one a line; `n-layer` is the same.

    Raises ConfigError for a file that is missing or no TOML, and for unknown or repeated names.
    """
    try:
        table = tomllib.loads(Path(path).read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise ConfigError(f"{path} is not TOML: {error}") from error
    found: dict[str, object] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name in found:
            raise ConfigError(f"{path} sets {name} twice")
        try:
            found[name] = _value(name, value)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.message}", hint=error.hint) from None
    return found


def from_record(record: Mapping[str, Any], path: StrPath) -> TrainConfig:
    """The settings that `TrainConfig.record` wrote to `path`. Raises CheckpointError."""
    try:
        return TrainConfig().changed(record)
    except ConfigError as error:
        raise CheckpointError(f"{path} holds no settings of a run: {error}") from error


def flag(name: str) -> str:
    """The spelling of a setting on the command line."""
    return "--" + name.replace("_", "-")


@cache
def types() -> dict[str, Any]:
    """The type of each setting."""
    return get_type_hints(TrainConfig)


def _value(name: str, value: object) -> Any:
    """`value` as the type of the setting `name`. Raises ConfigError."""
    if name not in types():
        raise ConfigError(f"unknown setting {name!r}", hint=did_you_mean(name, types()))
    wanted = types()[name]
    if wanted is float and type(value) is int:
        return float(value)
    if name == "data":
        values = [value] if isinstance(value, str | Path) else value
        if isinstance(values, list | tuple) and all(isinstance(v, str | Path) for v in values):
            return tuple(Path(v) for v in values)
    elif name == "out" and isinstance(value, str | Path):
        return Path(value)
    elif get_origin(wanted) is Literal:
        if value in get_args(wanted):
            return value
        choices = ", ".join(get_args(wanted))
        raise ConfigError(f"{name} must be one of {choices}, got {value!r}")
    elif type(value) in (get_args(wanted) or (wanted,)):
        return value
    elif value is None and type(None) in get_args(wanted):
        return None
    kind = getattr(wanted, "__name__", str(wanted))
    raise ConfigError(f"{name} must be of type {kind}, got {value!r}")

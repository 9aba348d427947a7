"""What a run trains on: token ids for training and validation, and the tokenizer they came from."""

from __future__ import annotations

import zlib
from pathlib import Path

import attrs
import numpy as np

from groundup.data import (
    BytePairTokenizer,
    CharTokenizer,
    Tokenizer,
    check_ids,
    embedded_corpus,
    load_text,
    load_tokenizer,
    open_tokens,
    split_by_position,
)
from groundup.data.tokens import IntArray
from groundup.errors import ConfigError, DataError
from groundup.files import StrPath
from groundup.suggest import did_you_mean
from groundup.train.config import TrainConfig

EMBEDDED = "the Python language reference"


@attrs.frozen(eq=False)
class Dataset:
    """Ids `train` (N,) and `val` (M,), each below `vocab_size`; M may be 0."""

    train: IntArray
    val: IntArray
    vocab_size: int
    tokenizer: Tokenizer | None  # None: .bin files do not say which it was
    source: str
    val_bytes: int | None  # of UTF-8 text, where that is known

    @property
    def bytes_per_token(self) -> float | None:
        """Of the validation text, to turn a loss per token into one per byte."""
        return self.val_bytes / len(self.val) if self.val_bytes and len(self.val) else None

    def save_tokenizer(self, path: StrPath) -> None:
        """Write the tokenizer, if there is one. Raises CheckpointError."""
        if self.tokenizer is not None:
            self.tokenizer.save(path)

    @property
    def fingerprint(self) -> str:
        """Tells whether a resumed run sees the data that it saw before."""
        checksum = 0
        for part in (self.train, self.val):
            checksum = zlib.crc32(np.ascontiguousarray(part, np.int32).data, checksum)
        return f"{len(self.train)}+{len(self.val)} tokens, crc32 {checksum:08x}"


def load_dataset(config: TrainConfig, tokenizer: Tokenizer | None = None) -> Dataset:
    """The data that `config` names, split by position; by `tokenizer` if given (a resumed run's).

    Byte pairs are learned from the training part only. Raises DataError for files that cannot be
    used, ConfigError for a tokenizer that is not there, CheckpointError for one that is damaged.
    """
    binary = [path for path in config.data if path.suffix == ".bin"]
    if binary:
        return _from_tokens(config, binary[0], tokenizer)
    text = load_text(config.data) if config.data else embedded_corpus()
    cut = int(len(text) * (1 - config.val_fraction))
    first, last = text[:cut], text[cut:]
    tokenizer = tokenizer or _tokenizer(config, text, first)
    return Dataset(
        train=tokenizer.encode(first),
        val=tokenizer.encode(last),
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer,
        source=", ".join(path.name for path in config.data) or EMBEDDED,
        val_bytes=len(last.encode("utf-8", "surrogatepass")),
    )


def _tokenizer(config: TrainConfig, text: str, training_text: str) -> Tokenizer:
    if config.tokenizer == "char":
        return CharTokenizer.train(text)
    if config.tokenizer == "bpe":
        return BytePairTokenizer.train(training_text, config.vocab_size)
    return _saved_tokenizer(config.tokenizer)


def _saved_tokenizer(name: str) -> Tokenizer:
    if not name.endswith(".json") and not Path(name).exists():
        raise ConfigError(
            f"--tokenizer {name!r} is neither char, bpe nor a file",
            hint=did_you_mean(name, ("char", "bpe")),
        )
    return load_tokenizer(name)


def _from_tokens(config: TrainConfig, path: Path, tokenizer: Tokenizer | None) -> Dataset:
    if len(config.data) > 1:
        raise DataError(f"{path} must be the only data file", hint="a .bin file holds token ids")
    tokens = open_tokens(path)
    if tokenizer is None and config.tokenizer not in ("char", "bpe"):
        tokenizer = _saved_tokenizer(config.tokenizer)
    vocab_size = config.vocab_size if tokenizer is None else tokenizer.vocab_size
    try:
        check_ids(tokens, vocab_size)
    except DataError as error:
        hint = "say how many ids there are with --vocab-size, or name their --tokenizer"
        raise DataError(f"{path}: {error.message}", hint=hint) from None
    train, val = split_by_position(tokens, config.val_fraction)
    return Dataset(train, val, vocab_size, tokenizer, path.name, None)

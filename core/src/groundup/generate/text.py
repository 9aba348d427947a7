"""Generation: a model and its tokenizer from a run's folder, a prompt in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np

import groundup as gu
from groundup.backends.devices import DeviceLike
from groundup.data import Tokenizer, load_tokenizer
from groundup.dtypes import int32
from groundup.errors import CheckpointError, ConfigError, DataError
from groundup.files import StrPath
from groundup.generate.sampling import Logits, Sampling, choose
from groundup.models import GPT, KVCache, load_gpt


@attrs.frozen(eq=False)
class TextModel:
    """A GPT with the tokenizer that it was trained with."""

    model: GPT
    tokenizer: Tokenizer

    @classmethod
    def load(cls, folder: StrPath, device: DeviceLike = None) -> TextModel:
        """From a run's folder, or one with Hugging Face's files of a GPT-2.

        Raises CheckpointError for a folder without a model, or a damaged one.
        """
        path = Path(folder)
        if not path.is_dir():
            raise CheckpointError(f"there is no folder {path}", hint="name a run's, as runs/tiny")
        if not (path / "config.json").exists():
            raise CheckpointError(f"{path} holds no model", hint="it has no config.json")
        model = load_gpt(path, device)
        tokenizer = _tokenizer(path / "tokenizer.json")
        if tokenizer.vocab_size > model.config.vocab_size:
            raise CheckpointError(
                f"{path}: the tokenizer has {tokenizer.vocab_size} ids, the model only "
                f"{model.config.vocab_size}"
            )
        return cls(model, tokenizer)

    def generate(
        self, prompt: str, *, max_new_tokens: int, sampling: Sampling, seed: int
    ) -> Iterator[str]:
        """The text that follows `prompt`, in pieces as they come.

        Raises DataError for a prompt without tokens or with characters that the tokenizer lacks.
        """
        ids = self.tokenizer.encode(prompt)
        if len(ids) == 0:
            raise DataError("the prompt is empty", hint="give at least one character")
        new = generate_ids(
            self.model, ids.tolist(), max_new_tokens=max_new_tokens, sampling=sampling, seed=seed
        )
        yield from self._pieces(new)

    def _pieces(self, ids: Iterable[int]) -> Iterator[str]:
        pending: list[int] = []  # tokens whose text is not given out yet
        for token in ids:
            pending.append(token)
            text = self._text(pending)
            if not text.endswith("\ufffd"):  # else a character's bytes are not all there yet
                yield text
                pending = []
        yield self._text(pending)

    def _text(self, ids: Sequence[int]) -> str:
        # A padded vocabulary has ids that the tokenizer does not know: they have no text.
        return self.tokenizer.decode([i for i in ids if i < self.tokenizer.vocab_size])


def _tokenizer(path: Path) -> Tokenizer:
    if not path.exists():
        raise CheckpointError(
            f"cannot read {path}: there is no such file",
            hint="a run on .bin tokens has one only if it was given with --tokenizer",
        )
    return load_tokenizer(path)


def generate_ids(
    model: GPT, ids: Sequence[int], *, max_new_tokens: int, sampling: Sampling, seed: int
) -> Iterator[int]:
    """`max_new_tokens` ids after `ids`, one by one; a function of weights, ids and seed.

    The random number of each place comes from NumPy's counter-based Philox4x64-10, so the same
    seed picks alike on every device. The model must be in evaluation mode. Raises ConfigError for
    a negative `max_new_tokens` or seed, DataError for no ids.
    """
    if max_new_tokens < 0:
        raise ConfigError(f"--max-new-tokens must be at least 0, got {max_new_tokens}")
    if not 0 <= seed < 2**64:
        raise ConfigError(f"--seed must be at least 0 and below 2^64, got {seed}")
    if not ids:
        raise DataError("generation needs at least one token to begin with")
    stream = np.random.Philox(key=seed)
    reader = _Reader(model)
    known = list(ids)
    for _ in range(max_new_tokens):
        # The top 53 bits make a float in [0, 1); the raw stream is the same in all NumPy versions.
        chance = (stream.random_raw() >> 11) * 2.0**-53
        known.append(choose(reader.next_logits(known), sampling, chance))
        yield known[-1]


class _Reader:
    """The model's logits for the token after some others, over the last `block_size` of them.

    While they fit the context, a cache makes each new token cheap, and all run one compiled
    program. Beyond, every position shifts with each token, so all are computed again.
    """

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.cache = cache = KVCache(model.config, device=self.device)
        self.one_more = gu.compile(lambda token: model.logits(token, cache))

    def next_logits(self, known: Sequence[int]) -> Logits:
        context = self.model.config.block_size
        fits = len(known) <= context
        new = known[self.cache.used :] if fits else known[-context:]
        ids = gu.tensor([list(new)], dtype=int32, device=self.device)
        with gu.no_grad():
            if fits and self.cache.used and len(new) == 1:
                self.cache.reserve(1)
                logits = self.one_more(ids)
            else:
                logits = self.model(ids, cache=self.cache if fits else None)
            return np.asarray(logits[0, -1].numpy(), np.float32)

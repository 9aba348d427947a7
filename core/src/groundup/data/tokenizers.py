"""Text to token ids and back: by character, or by byte pairs that a corpus has taught.

A byte-pair tokenizer is saved in the `tokenizer.json` format of Hugging Face's `tokenizers`,
which does the work; a character tokenizer is a small JSON object with `"type": "char"`.
`load_tokenizer` reads both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from groundup.data.tokens import IntArray, check_ids
from groundup.errors import CheckpointError, ConfigError, DataError
from groundup.files import StrPath, atomic_write
from groundup.serialization import read_json, write_json

if TYPE_CHECKING:
    import tokenizers

Ids = npt.NDArray[np.int32]

# The library needs some 600 bytes per token of one text, so a long text goes through it in pieces.
_PIECE: Final = 1 << 16  # characters
_BATCH: Final = 64  # pieces that it encodes in parallel
_CUT: Final = re.compile(r"(?<=\S)(?=\n)")


class Tokenizer(Protocol):
    """What training and generation need of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Ids are in [0, vocab_size)."""
        ...

    def encode(self, text: str) -> Ids:
        """The ids (N,), int32, of `text`. Raises DataError for text that it cannot express."""
        ...

    def decode(self, ids: Sequence[int] | IntArray) -> str:
        """The text of `ids` (N,). Raises DataError for ids outside the vocabulary."""
        ...

    def save(self, path: StrPath) -> None:
        """Write the file `path`, by custom `tokenizer.json`. Raises CheckpointError."""
        ...


def load_tokenizer(path: StrPath) -> Tokenizer:
    """The tokenizer in the file at `path`: by character, or byte pairs in Hugging Face's format.

    Raises CheckpointError when the file is missing, damaged, or holds something else.
    """
    record = read_json(path)
    if record.get("type") == "char":
        return _char_tokenizer(path, record.get("characters"))
    if isinstance(record.get("model"), dict):
        return _byte_pair_tokenizer(path, record)
    raise CheckpointError(
        f"{path} holds no tokenizer", hint='it has neither "type": "char" nor a "model"'
    )


class CharTokenizer:
    """One id per character; ids follow the order of the code points."""

    def __init__(self, characters: str) -> None:
        """The vocabulary is the distinct ones of `characters`. Raises DataError without any."""
        if not characters:
            raise DataError("a character tokenizer needs at least one character")
        self.characters = "".join(sorted(set(characters)))
        self._points = _code_points(self.characters)  # sorted, so ids are found by bisection

    @classmethod
    def train(cls, text: str) -> CharTokenizer:
        """The tokenizer of the characters that occur in `text`."""
        return cls(text)

    @property
    def vocab_size(self) -> int:
        """The number of characters."""
        return len(self.characters)

    def encode(self, text: str) -> Ids:
        """The ids (N,), int32. Raises DataError naming the first character that is not known."""
        points = _code_points(text)
        ids = np.searchsorted(self._points, points)
        known = self._points[np.minimum(ids, self.vocab_size - 1)] == points
        if not known.all():
            position = int(np.argmin(known))
            character = text[position]
            raise DataError(
                f"character {character!r} (U+{ord(character):04X}) at position {position}"
                f" is not among the tokenizer's {self.vocab_size}",
                hint="use characters of the training text, or byte pairs, which know them all",
            )
        return ids.astype(np.int32)

    def decode(self, ids: Sequence[int] | IntArray) -> str:
        """The text of `ids` (N,). Raises DataError for ids outside the vocabulary."""
        known = _known_ids(ids, self.vocab_size)
        return self._points[known].tobytes().decode("utf-32-le", "surrogatepass")

    def save(self, path: StrPath) -> None:
        """Write the file `path`. Raises CheckpointError if it cannot."""
        write_json(path, {"type": "char", "characters": self.characters})


class BytePairTokenizer:
    """Byte-level byte-pair encoding, as GPT-2's: every text has ids, and they give it back.

    Ids that end inside a character (generation may stop there) decode to U+FFFD at that place.
    Source: Sennrich et al., "Neural machine translation of rare words with subword units", 2016;
    Radford et al., "Language models are unsupervised multitask learners", 2019 (on bytes).
    """

    def __init__(self, model: tokenizers.Tokenizer) -> None:
        """Wrap a tokenizer of the library; one that cuts text short or pads it is set not to."""
        model.no_truncation()
        model.no_padding()
        self.model = model
        self._vocab_size = max(model.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self._in_pieces = _newlines_start_words(json.loads(model.to_str()))

    @classmethod
    def train(cls, text: str, vocab_size: int) -> BytePairTokenizer:
        """Learn byte pairs from `text` until there are `vocab_size` ids; one text, one result.

        A short text has fewer pairs worth merging and gives a smaller vocabulary.

        Raises ConfigError for a `vocab_size` below 256 (the bytes), DataError for an empty text.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if vocab_size < 256:
            raise ConfigError(f"a byte-pair vocabulary has at least 256 ids, got {vocab_size}")
        if not text:
            raise DataError("a byte-pair tokenizer cannot learn from an empty text")
        model = Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = decoders.ByteLevel()
        _check_encodable(text)
        # Every merge makes the text shorter, so there are fewer than it has bytes. The library
        # makes room for as many as it is asked for, and ends the process if it cannot.
        most = 256 + len(text.encode())
        trainer = trainers.BpeTrainer(
            vocab_size=min(vocab_size, most),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        model.train_from_iterator(_pieces(text), trainer)
        return cls(model)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, added tokens included."""
        return self._vocab_size

    def encode(self, text: str) -> Ids:
        """The ids (N,), int32, with nothing added around. Raises DataError for half a surrogate."""
        _check_encodable(text)
        if not text:
            return np.empty(0, np.int32)
        pieces = list(_pieces(text)) if self._in_pieces else [text]
        ids = [
            np.array(encoding.ids, np.int32)
            for batch in _chunks(pieces)
            for encoding in self.model.encode_batch_fast(batch, add_special_tokens=False)
        ]
        return np.concatenate(ids)

    def decode(self, ids: Sequence[int] | IntArray) -> str:
        """The text of `ids` (N,). Raises DataError for ids outside the vocabulary."""
        known = _known_ids(ids, self.vocab_size).tolist()
        return str(self.model.decode(known, skip_special_tokens=False))

    def save(self, path: StrPath) -> None:
        """Write the file `path`, in Hugging Face's format. Raises CheckpointError if it cannot."""
        with atomic_write(path) as temporary:
            text = self.model.to_str(pretty=True)
            temporary.write_text(text, encoding="utf-8", newline="\n")


def _char_tokenizer(path: StrPath, characters: object) -> CharTokenizer:
    # Ids are positions in this text: one that is not sorted or repeats a character is not ours.
    if not isinstance(characters, str) or not characters:
        raise CheckpointError(f'{path} is damaged: "characters" must be a text')
    tokenizer = CharTokenizer(characters)
    if tokenizer.characters != characters:
        raise CheckpointError(f'{path} is damaged: "characters" must be sorted and distinct')
    return tokenizer


def _byte_pair_tokenizer(path: StrPath, record: dict[str, Any]) -> BytePairTokenizer:
    from tokenizers import Tokenizer

    kind = record["model"].get("type", "BPE")  # GPT-2's own file names no type
    if kind != "BPE":
        raise CheckpointError(f"{path} holds a {kind} tokenizer", hint="only BPE is supported")
    try:
        return BytePairTokenizer(Tokenizer.from_str(json.dumps(record)))
    except Exception as error:  # the library raises no narrower class
        raise CheckpointError(f"{path} is damaged or no tokenizer: {error}") from error


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def _known_ids(ids: Sequence[int] | IntArray, vocab_size: int) -> IntArray:
    array = np.asarray(ids)
    if array.ndim != 1:
        raise DataError(f"decode takes a row of ids, got shape {array.shape}")
    if array.size == 0:
        return np.empty(0, np.int32)  # NumPy makes [] a float array
    check_ids(array, vocab_size)
    return array


def _check_encodable(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        point = ord(text[error.start])
        raise DataError(
            f"U+{point:04X} at position {error.start} is half a surrogate pair, not a character"
        ) from error


def _pieces(text: str) -> Iterator[str]:
    """`text` in pieces of about `_PIECE` characters, cut only where a line of text ends.

    GPT-2's rule splits there anyway (no word of its crosses from visible characters to white
    space, other than by a leading space), so the ids are those of the whole text.
    """
    start = 0
    while start < len(text):
        cut = _CUT.search(text, start + _PIECE)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def _chunks(pieces: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(pieces), _BATCH):
        yield pieces[start : start + _BATCH]


def _newlines_start_words(record: dict[str, Any]) -> bool:
    """Whether it splits as `_pieces` assumes: GPT-2's rule, and nothing that looks across it."""
    rule = record.get("pre_tokenizer") or {}
    gpt2 = rule.get("type") == "ByteLevel" and rule.get("use_regex", True)
    added = record.get("added_tokens") or []
    reach = any(t["lstrip"] or t["rstrip"] or "\n" in t["content"] for t in added)
    return bool(gpt2 and not record.get("normalizer") and not reach)

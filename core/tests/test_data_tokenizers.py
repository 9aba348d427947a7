import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Library

import groundup.data.tokenizers as tokenizers_module
from groundup.data import (
    BytePairTokenizer,
    CharTokenizer,
    Tokenizer,
    embedded_corpus,
    load_tokenizer,
)
from groundup.errors import CheckpointError, ConfigError, DataError

CORPUS = embedded_corpus()[:60_000]
TEXTS = [
    "",
    "a",
    "The if statement is used for conditional execution.\n\n   if_stmt ::= ...\n",
    "naïve café — “quotes” \N{WHITE SMILING FACE}",
    "日本語のテキスト, العربية, \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\x00\x01\x7f\x85\xa0\u2028\ufeff",
    "tabs\t\tand\r\nlines \n \n\n  x  ",
    "it's they'll 12345 x1y2 !?...",
]


@pytest.fixture(scope="module")
def byte_pairs() -> BytePairTokenizer:
    return BytePairTokenizer.train(CORPUS, 600)


def library_model(**options: Any) -> Library:
    """A byte-pair model of six ids, without the byte alphabet, as the library builds it."""
    vocab = {"a": 0, "b": 1, "ab": 2, "\u2581": 3, "c": 4, "\u010a": 5}  # the last is a newline
    return Library(models.BPE(vocab=vocab, merges=[("a", "b")], **options))


# -- characters --


def test_characters_get_ids_in_the_order_of_their_code_points() -> None:
    tokenizer: Tokenizer = CharTokenizer.train("hello \U0001f600 b\n")
    assert tokenizer.vocab_size == 8
    ids = tokenizer.encode("\nbe\U0001f600")
    assert ids.dtype == np.int32
    assert ids.tolist() == [0, 2, 3, 7]
    assert tokenizer.decode(ids) == "\nbe\U0001f600"


@pytest.mark.parametrize("text", TEXTS[1:])
def test_characters_come_back(text: str) -> None:
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    assert ids.tolist() == [sorted(set(text)).index(character) for character in text]
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist()) == text


def test_half_a_surrogate_is_a_character_like_any_other() -> None:
    tokenizer = CharTokenizer.train("a\ud800")
    assert tokenizer.decode(tokenizer.encode("\ud800a")) == "\ud800a"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("abz", r"'z' \(U\+007A\) at position 2"),
        ("A", r"'A' \(U\+0041\) at position 0"),
        ("a\u00dfz", r"'ß' \(U\+00DF\) at position 1"),
        ("\U0001f600", r"\(U\+1F600\) at position 0"),
    ],
)
def test_an_unknown_character_is_named(text: str, named: str) -> None:
    with pytest.raises(DataError, match=rf"character {named}|character .*{named}") as caught:
        CharTokenizer.train("abc").encode(text)
    assert "is not among the tokenizer's 3 (use characters of the training text" in str(
        caught.value
    )


def test_nothing_to_learn_characters_from_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one character"):
        CharTokenizer.train("")


# -- byte pairs --


@pytest.mark.parametrize("text", TEXTS)
def test_byte_pairs_express_every_text(byte_pairs: BytePairTokenizer, text: str) -> None:
    ids = byte_pairs.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert byte_pairs.decode(ids) == text
    assert byte_pairs.decode(ids.tolist()) == text


def test_byte_pairs_shorten_the_text_that_they_learned_from(byte_pairs: BytePairTokenizer) -> None:
    assert byte_pairs.vocab_size == 600
    ids = byte_pairs.encode(CORPUS)
    assert len(ids) < 0.6 * len(CORPUS)
    assert ids.max() < 600
    assert byte_pairs.decode(ids) == CORPUS


def test_the_smallest_vocabulary_is_the_bytes() -> None:
    tokenizer = BytePairTokenizer.train("aaaa", 256)
    assert tokenizer.vocab_size == 256
    assert len(tokenizer.encode("aé")) == 3


def test_a_short_text_gives_a_smaller_vocabulary() -> None:
    assert BytePairTokenizer.train("abab", 4096).vocab_size < 260


def test_a_vocabulary_that_no_memory_has_room_for_is_never_made() -> None:
    assert BytePairTokenizer.train("ab ab ab", 10**30).vocab_size < 300


def test_training_is_deterministic_across_processes_and_threads(
    byte_pairs: BytePairTokenizer,
) -> None:
    code = (
        "from groundup.data import BytePairTokenizer, embedded_corpus;"
        "print(BytePairTokenizer.train(embedded_corpus()[:60_000], 600).model.to_str())"
    )
    for threads, hashing in (("1", "1"), ("4", "2")):
        variables = {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": hashing, "PYTHONUTF8": "1"}
        result = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | variables,
            capture_output=True,
            check=True,
            encoding="utf-8",
        )
        assert result.stdout.strip() == byte_pairs.model.to_str()


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_text_in_pieces_has_the_ids_of_the_whole(
    byte_pairs: BytePairTokenizer, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """Not a detail: a cut inside a run of white space would give other ids."""
    rng = np.random.default_rng(0)
    alphabet = list(" \n\n\t\r\x0b\x1c\x85\xa0\u2028ab1.'s\U0001f600é")
    texts = ["".join(rng.choice(alphabet, 80)) for _ in range(100)] + [CORPUS[:5000], *TEXTS]
    monkeypatch.setattr(tokenizers_module, "_PIECE", piece)
    for text in texts:
        assert byte_pairs.encode(text).tolist() == byte_pairs.model.encode(text).ids, repr(text)
    trained = BytePairTokenizer.train(CORPUS, 600)
    assert trained.model.to_str() == byte_pairs.model.to_str()


def test_a_text_without_lines_is_one_piece(
    byte_pairs: BytePairTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizers_module, "_PIECE", 4)
    text = "one long line of words"
    assert byte_pairs.decode(byte_pairs.encode(text)) == text


def test_ids_that_end_inside_a_character_decode_to_a_mark(byte_pairs: BytePairTokenizer) -> None:
    ids = byte_pairs.encode("日")
    assert len(ids) > 1
    assert byte_pairs.decode(ids[:-1]) == "\ufffd"


def test_half_a_surrogate_has_no_bytes(byte_pairs: BytePairTokenizer) -> None:
    with pytest.raises(DataError, match=r"U\+D800 at position 2 is half a surrogate"):
        byte_pairs.encode("ab\ud800")
    with pytest.raises(DataError, match=r"U\+D800 at position 2 is half a surrogate"):
        BytePairTokenizer.train("ab\ud800", 300)


def test_a_vocabulary_below_the_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 256 ids, got 255"):
        BytePairTokenizer.train("text", 255)


def test_nothing_to_learn_byte_pairs_from_is_an_error() -> None:
    with pytest.raises(DataError, match="empty text"):
        BytePairTokenizer.train("", 300)


# -- both --


@pytest.fixture(params=["char", "byte pairs"])
def tokenizer(request: pytest.FixtureRequest, byte_pairs: BytePairTokenizer) -> Tokenizer:
    return byte_pairs if request.param == "byte pairs" else CharTokenizer.train(CORPUS)


def test_a_saved_tokenizer_comes_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    loaded = load_tokenizer(path)
    assert type(loaded) is type(tokenizer)
    assert loaded.vocab_size == tokenizer.vocab_size
    np.testing.assert_array_equal(loaded.encode(CORPUS), tokenizer.encode(CORPUS))
    assert list(tmp_path.iterdir()) == [path]
    before = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("bad", [-1, 600, 10**6])
def test_ids_outside_the_vocabulary_are_refused(tokenizer: Tokenizer, bad: int) -> None:
    with pytest.raises(DataError, match=f"token id {bad} at position 1"):
        tokenizer.decode([0, bad])


def test_no_ids_are_no_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode(np.zeros(0, np.int32)) == ""


@pytest.mark.parametrize(
    ("ids", "wrong"),
    [(np.zeros((2, 2), np.int32), r"shape \(2, 2\)"), (np.zeros(2), "integers, got float64")],
    ids=["matrix", "floats"],
)
def test_only_a_row_of_integers_is_decoded(
    tokenizer: Tokenizer, ids: np.ndarray, wrong: str
) -> None:
    with pytest.raises(DataError, match=wrong):
        tokenizer.decode(ids)


def test_a_tokenizer_is_not_saved_into_a_missing_folder(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"cannot write .*tokenizer\.json: No such file"):
        tokenizer.save(tmp_path / "nowhere" / "tokenizer.json")


# -- files of others, and damaged ones --


def saved(tmp_path: Path, model: Library) -> Path:
    path = tmp_path / "tokenizer.json"
    model.save(str(path))
    return path


def test_a_file_of_the_library_that_names_no_type_is_read_as_gpt2_s(
    byte_pairs: BytePairTokenizer, tmp_path: Path
) -> None:
    record = json.loads(byte_pairs.model.to_str())
    del record["model"]["type"]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    np.testing.assert_array_equal(
        load_tokenizer(path).encode(CORPUS[:500]), byte_pairs.encode(CORPUS[:500])
    )


def test_special_tokens_are_ids_like_others_and_none_are_added(
    byte_pairs: BytePairTokenizer, tmp_path: Path
) -> None:
    model = Library.from_str(byte_pairs.model.to_str())
    model.add_special_tokens(["<|endoftext|>"])
    model.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 600)]
    )
    tokenizer = load_tokenizer(saved(tmp_path, model))
    assert tokenizer.vocab_size == 601
    ids = tokenizer.encode("one<|endoftext|>two")
    assert ids.tolist().count(600) == 1
    assert ids[0] != 600
    assert tokenizer.decode(ids) == "one<|endoftext|>two"


def test_a_tokenizer_that_truncates_and_pads_is_told_not_to(tmp_path: Path) -> None:
    model = library_model()
    model.enable_truncation(2)
    model.enable_padding(length=8, pad_id=4)
    assert load_tokenizer(saved(tmp_path, model)).encode("abaab").tolist() == [2, 0, 2]


def other_tokenizers() -> dict[str, Library]:
    """Tokenizers that treat the start of a text or a line end otherwise than ours."""
    prefix, lower, strip, words = (library_model() for _ in range(4))
    prefix.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    lower.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    lower.normalizer = normalizers.Replace("b\n", "c")
    strip.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    strip.add_tokens([AddedToken("b", rstrip=True)])
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.decoder = decoders.Metaspace()
    return {"prefix": prefix, "normalizer": lower, "strip": strip, "metaspace": words}


@pytest.mark.parametrize("kind", ["prefix", "normalizer", "strip", "metaspace"])
def test_the_library_s_other_tokenizers_give_the_library_s_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    model = other_tokenizers()[kind]
    monkeypatch.setattr(tokenizers_module, "_PIECE", 1)
    text = "ab\nab\n\nab ab\nc"
    assert load_tokenizer(saved(tmp_path, model)).encode(text).tolist() == model.encode(text).ids


def test_other_models_of_the_library_are_refused(tmp_path: Path) -> None:
    model = Library(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    with pytest.raises(CheckpointError, match=r"holds a WordLevel tokenizer \(only BPE"):
        load_tokenizer(saved(tmp_path, model))


@pytest.mark.parametrize(
    ("record", "wrong"),
    [
        ({}, "holds no tokenizer"),
        ({"type": "word"}, "holds no tokenizer"),
        ({"n_layer": 4, "model": "gpt"}, "holds no tokenizer"),
        ({"type": "char"}, '"characters" must be a text'),
        ({"type": "char", "characters": ""}, '"characters" must be a text'),
        ({"type": "char", "characters": ["a", "b"]}, '"characters" must be a text'),
        ({"type": "char", "characters": "ba"}, "sorted and distinct"),
        ({"type": "char", "characters": "aab"}, "sorted and distinct"),
        ({"model": {}}, "damaged or no tokenizer"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}, "damaged or no"),
        ({"model": {"type": "BPE", "vocab": 3, "merges": []}}, "damaged or no tokenizer"),
    ],
    ids=str,
)
def test_a_foreign_or_damaged_tokenizer_is_a_typed_error(
    tmp_path: Path, record: dict[str, Any], wrong: str
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"tokenizer\.json .*{wrong}") as caught:
        load_tokenizer(path)
    assert "\n" not in str(caught.value)


def test_a_cut_tokenizer_file_is_a_typed_error(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="damaged or not JSON"):
        load_tokenizer(path)


def test_a_missing_tokenizer_file_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        load_tokenizer(tmp_path / "tokenizer.json")

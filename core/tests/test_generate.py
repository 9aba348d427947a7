"""Sampling and generation: the distribution, seeds, contexts that overflow, whole characters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import groundup as gu
from groundup import random
from groundup.data import BytePairTokenizer, CharTokenizer
from groundup.errors import CheckpointError, ConfigError, DataError, NonFiniteError
from groundup.generate import Sampling, TextModel, choose, generate_ids
from groundup.generate.sampling import distribution
from groundup.models import GPT, GPTConfig, save_gpt

CONFIG = GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=12, vocab_size=27)
LOGITS = np.log(np.array([0.1, 0.4, 0.3, 0.2], np.float32))


@pytest.fixture
def model() -> GPT:
    random.manual_seed(2)
    made = GPT(CONFIG).eval()
    with gu.no_grad():  # sharper logits, so that the seeds and the context matter
        made.wte.weight.assign_(made.wte.weight * 20)
    return made


def test_temperature_divides_the_logits() -> None:
    plain = distribution(LOGITS, Sampling())
    np.testing.assert_allclose(plain, [0.1, 0.4, 0.3, 0.2], rtol=1e-6)
    cold = distribution(LOGITS, Sampling(temperature=0.5))
    np.testing.assert_allclose(cold, plain**2 / (plain**2).sum(), rtol=1e-6)
    assert distribution(LOGITS, Sampling(temperature=1e-30)).tolist() == [0, 1, 0, 0]


def test_top_k_and_top_p() -> None:
    two = distribution(LOGITS, Sampling(top_k=2))
    np.testing.assert_allclose(two, [0, 4 / 7, 3 / 7, 0], rtol=1e-6)
    assert distribution(LOGITS, Sampling(top_k=9)) == pytest.approx([0.1, 0.4, 0.3, 0.2])
    nucleus = distribution(LOGITS, Sampling(top_p=0.75))  # 0.4 + 0.3 is not enough
    np.testing.assert_allclose(nucleus, [0, 4 / 9, 3 / 9, 2 / 9], rtol=1e-6)
    assert distribution(LOGITS, Sampling(top_p=0.01)).tolist() == [0, 1, 0, 0]
    tied = distribution(np.zeros(4, np.float32), Sampling(top_k=2))
    assert tied.tolist() == [0.5, 0.5, 0, 0]


def test_choose_inverts_the_cumulative_distribution() -> None:
    picks = [choose(LOGITS, Sampling(), chance) for chance in (0.0, 0.099, 0.101, 0.6, 0.81)]
    assert picks == [0, 0, 1, 2, 3]
    assert choose(LOGITS, Sampling(top_k=1), 1 - 2**-53) == 1
    assert choose(LOGITS, Sampling(temperature=0), 0.999) == 1
    with pytest.raises(NonFiniteError, match="not finite"):
        choose(np.array([0, np.nan], np.float32), Sampling(), 0.5)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"temperature": -1}, "--temperature must be at least 0"),
        ({"temperature": float("nan")}, "--temperature must be at least 0"),
        ({"top_k": 0}, "--top-k must be at least 1"),
        ({"top_p": 0}, "--top-p must be above 0"),
        ({"top_p": 1.5}, "--top-p must be above 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Sampling(**settings)  # type: ignore[arg-type]


def ids_of(
    model: GPT, start: Sequence[int], count: int, seed: int = 0, t: float = 1.0
) -> list[int]:
    sampling = Sampling(temperature=t)
    return list(generate_ids(model, start, max_new_tokens=count, sampling=sampling, seed=seed))


def test_same_seed_same_ids(model: GPT) -> None:
    assert ids_of(model, [1, 2], 30, seed=7) == ids_of(model, [1, 2], 30, seed=7)
    assert ids_of(model, [1, 2], 30, seed=7) != ids_of(model, [1, 2], 30, seed=8)
    assert ids_of(model, [1, 2], 10, seed=7) == ids_of(model, [1, 2], 30, seed=7)[:10]


def test_greedy_ids_are_those_of_the_last_block_size_tokens(model: GPT) -> None:
    known = [3, 1, 4]
    for _ in range(20):  # well beyond the context of 12
        logits = model(gu.tensor([known[-12:]], dtype="int32")).detach().numpy()
        known.append(int(logits[0, -1].argmax()))
    assert ids_of(model, [3, 1, 4], 20, t=0.0) == known[3:]


def test_a_prompt_longer_than_the_context(model: GPT) -> None:
    long = list(range(20))
    assert ids_of(model, long, 5, t=0.0) == ids_of(model, long[-12:], 5, t=0.0)


def test_refusals(model: GPT) -> None:
    assert ids_of(model, [1], 0) == []
    with pytest.raises(ConfigError, match="--max-new-tokens must be at least 0, got -1"):
        ids_of(model, [1], -1)
    with pytest.raises(ConfigError, match="--seed"):
        ids_of(model, [1], 1, seed=-1)
    with pytest.raises(DataError, match="at least one token"):
        ids_of(model, [], 1)


def test_characters_come_whole(tmp_path: Path) -> None:
    """Byte pairs may end inside a character; a piece never does."""
    tokenizer = BytePairTokenizer.train("äöü ↑↓ 日本語 " * 3, 256)
    random.manual_seed(0)
    config = GPTConfig(n_layer=1, n_head=1, n_embd=8, block_size=64, vocab_size=256)
    text_model = TextModel(GPT(config).eval(), tokenizer)
    wanted = "語↑ä"
    ids = tokenizer.encode(wanted).tolist()
    assert len(ids) > len(wanted)
    pieces = list(text_model._pieces(ids))
    assert pieces == ["語", "↑", "ä", ""]
    assert "".join(text_model._pieces(ids[:-1])) == "語↑\ufffd"


def test_text_of_a_folder(tmp_path: Path, model: GPT) -> None:
    save_gpt(model, tmp_path)
    CharTokenizer("abcdefghijklmnopqrstuvwxyz ").save(tmp_path / "tokenizer.json")
    loaded = TextModel.load(tmp_path)
    settings = {"max_new_tokens": 9, "sampling": Sampling(), "seed": 1}
    text = "".join(loaded.generate("hello", **settings))  # type: ignore[arg-type]
    assert len(text) == 9
    with pytest.raises(DataError, match="the prompt is empty"):
        next(loaded.generate("", **settings))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="character 'X'"):
        next(loaded.generate("heXllo", **settings))  # type: ignore[arg-type]


def test_a_tokenizer_of_another_model(tmp_path: Path, model: GPT) -> None:
    save_gpt(model, tmp_path)
    CharTokenizer("".join(map(chr, range(100)))).save(tmp_path / "tokenizer.json")
    with pytest.raises(CheckpointError, match="the tokenizer has 100 ids, the model only 27"):
        TextModel.load(tmp_path)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no folder"):
        TextModel.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no model"):
        TextModel.load(tmp_path)

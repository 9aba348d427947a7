"""Greedy decoding of level 3: the trained GPT continues a prompt, on a device and in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

import groundup as gu
from groundup.backends.api import Device
from groundup.dtypes import int32
from groundup.generate import Sampling, generate_ids
from groundup.models import GPT, KVCache
from groundup.tensor import Tensor
from groundup_conformance.training.float64 import Array, Value
from groundup_conformance.training.models import CONFIG, gpt_logits
from groundup_conformance.training.runs import wanted

Forward: TypeAlias = Callable[[Tensor], Tensor]  # ids (B, T) to logits (B, T, V)
Runner: TypeAlias = Callable[[Forward], Forward]

COUNT: Final = 64
PROMPT: Final = (4, 11, 17, 2, 6)
_CHUNKS: Final = (5, 1, 7, 16, 3)  # tokens that are given to the cache at a time


@attrs.frozen(eq=False)
class Decoded:
    """Ids, prompt included, and the logits (T, V) from which each id after the prompt came."""

    ids: tuple[int, ...]
    logits: Array

    @property
    def margins(self) -> Array:
        """How far the best logit is above the second best, for each token."""
        best = np.sort(self.logits, axis=-1)
        gaps: Array = best[:, -1] - best[:, -2]
        return gaps


@cache
def reference() -> Decoded:
    """The continuation in float64, from the weights that the float64 run of AdamW ended with."""
    values = {name: Value(array) for name, array in trained().items()}
    ids, rows = list(PROMPT), []
    for _ in range(COUNT):
        logits = gpt_logits(values, np.array([ids], np.int32)).data[0, -1]
        rows.append(logits)
        ids.append(int(logits.argmax()))
    return Decoded(tuple(ids), np.array(rows))


@cache
def trained() -> dict[str, npt.NDArray[np.float32]]:
    """Those weights, as float32."""
    return {name: a.astype(np.float32) for name, a in wanted("gpt", "adamw").final.items()}


def model(device: Device) -> GPT:
    """The trained GPT on `device`, in evaluation mode."""
    made: GPT = GPT(CONFIG).to(device)
    made.load_state_dict(trained())
    return made.eval()


def cached(made: GPT) -> list[int]:
    """The ids, one after the other, by keys and values that are kept."""
    kept = KVCache(CONFIG, device=next(made.parameters()).device)
    ids = list(PROMPT)
    for _ in range(COUNT):
        ids.append(int(logits_of(made, ids[kept.used :], kept)[-1].argmax()))
    return ids


def generated(made: GPT) -> list[int]:
    """The ids that `generate_ids` gives, whose steps with a cache are one program."""
    greedy = Sampling(temperature=0)
    new = generate_ids(made, PROMPT, max_new_tokens=COUNT, sampling=greedy, seed=0)
    return [*PROMPT, *new]


def padded(made: GPT, forward: Forward) -> list[int]:
    """The ids, all computed again for each of them, by a `forward` that always sees one shape."""
    device = next(made.parameters()).device
    ids = np.zeros((1, len(PROMPT) + COUNT), np.int32)
    ids[0, : len(PROMPT)] = PROMPT
    for end in range(len(PROMPT), ids.shape[1]):
        with gu.no_grad():
            logits = forward(gu.from_numpy(ids, device))
        ids[0, end] = int(logits.numpy()[0, end - 1].argmax())
    return [int(each) for each in ids[0]]


def uncached(made: GPT) -> list[int]:
    """The ids, all computed again for each of them."""
    ids = list(PROMPT)
    for _ in range(COUNT):
        ids.append(int(logits_of(made, ids)[-1].argmax()))
    return ids


def logits_of(made: GPT, ids: Sequence[int], cache: KVCache | None = None) -> npt.NDArray[Any]:
    """The logits (T, V) of `ids`, which follow those in `cache`."""
    device = next(made.parameters()).device
    with gu.no_grad():
        logits = made(gu.tensor([list(ids)], dtype=int32, device=device), cache=cache)
        return np.asarray(logits[0].numpy())


def chunked(made: GPT, ids: Sequence[int], runner: Runner = lambda step: step) -> npt.NDArray[Any]:
    """The logits of `ids`, given to a cache some at a time."""
    device = next(made.parameters()).device
    kept = KVCache(CONFIG, device=device)
    step = runner(lambda new: made.logits(new, kept))
    rows = []
    sizes = iter(_CHUNKS * len(ids))
    while kept.used < len(ids):
        new = ids[kept.used : kept.used + next(sizes)]
        kept.reserve(len(new))
        with gu.no_grad():
            rows.append(step(gu.tensor([list(new)], dtype=int32, device=device))[0].numpy())
    return np.concatenate(rows)

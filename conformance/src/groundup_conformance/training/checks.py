"""The cases of level 3, and what is asked of each: figures come back, or `Failed` is raised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import numpy as np

import groundup as gu
from groundup.backends.api import Device, DeviceInfo
from groundup.dtypes import float32, int32
from groundup_conformance.budgets import Expected, Profile, Verdict
from groundup_conformance.cases import Check, Ops
from groundup_conformance.ids import CaseId
from groundup_conformance.running import Failed, Figures
from groundup_conformance.training import decoding, judging, resuming
from groundup_conformance.training.models import NETWORKS
from groundup_conformance.training.runs import (
    FULL,
    PRECISIONS,
    RECIPES,
    RUNNERS,
    Precision,
    Trace,
    train,
    wanted,
)

_LEVEL: Final = 3
_MIXED: Final = "adamw"


@attrs.frozen
class Training:
    """What a case trains, and how its step is run (a name in `RUNNERS`)."""

    network: str
    recipe: str
    runner: str
    precision: Precision


def training(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Loss curves, first gradients and first updates of every network by every recipe."""
    for runner in RUNNERS:
        for network in NETWORKS:
            for recipe in RECIPES:
                run = Training(network, recipe, runner, FULL)
                for question in ("losses", "gradients", "update"):
                    yield _check("train", f"{network}-{recipe}", runner, question, run, info)
            for precision in PRECISIONS.values():
                if precision is not FULL:
                    run = Training(network, _MIXED, runner, precision)
                    for question in ("losses", "gradients"):
                        yield _check("train", f"{network}-{_MIXED}", runner, question, run, info)


def resumption(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Saved and continued, bit by bit."""
    for runner in RUNNERS:
        for network in NETWORKS:
            for recipe in ("momentum", "adamw"):
                run = Training(network, recipe, runner, FULL)
                yield _check("train", f"{network}-{recipe}", runner, "resume", run, info)


def inference(ops: Ops, info: DeviceInfo) -> Iterator[Check]:
    """Greedy decoding of the small GPT, with a cache and without."""
    for runner, questions in DECODINGS.items():
        run = Training("gpt", "adamw", runner, FULL)
        for question in questions:
            yield _check("generate", "gpt", runner, question, run, info)


def _check(
    name: str, case: str, runner: str, question: str, run: Training, info: DeviceInfo
) -> Check:
    dtype = run.precision.dtype
    missing = None if dtype in info.dtypes else f"{info.name} has no {dtype}"
    return Check(
        CaseId(name, dtype.name, case, runner, question),
        _LEVEL,
        "training" if name == "train" else "inference",
        needs=frozenset({float32.name, dtype.name}),
        unsupported=missing,
        payload=run,
    )


# ---- training ----


@lru_cache(maxsize=8)
def _trace(run: Training, device: Device) -> Trace:
    """One run answers several questions."""
    network, recipe = NETWORKS[run.network], RECIPES[run.recipe]
    return train(network, recipe, device, RUNNERS[run.runner], run.precision)


def trained(check: Check, device: Device, profile: Profile) -> Figures:
    """The run's losses, first gradients or first update against those in float64."""
    run: Training = check.payload
    got, want = _trace(run, device), wanted(run.network, run.recipe)
    if check.id.variant == "losses":
        return _judged(judging.judge_losses(got, want, run.precision, profile), "step")
    if check.id.variant == "gradients":
        return _judged(judging.judge_gradients(got, want, run.precision, profile))
    return _judged(judging.judge_update(got, run.network, run.recipe, profile))


def resumed(check: Check, device: Device, folder: Path) -> Figures:
    """A run that was saved and continued against one that was not."""
    run: Training = check.payload
    runner = RUNNERS[run.runner]
    found = resuming.difference(run.network, run.recipe, device, runner, folder)
    if found:
        raise Failed(found)
    return Figures()


def _judged(verdict: Verdict, place: str = "") -> Figures:
    figures = Figures(verdict.ratio, verdict.ulp)
    if not verdict.ok:
        where = f"{place} {verdict.index[0]}: " if place and verdict.index else ""
        raise Failed(f"{where}{verdict}", figures)
    return figures


# ---- inference ----


def _greedy(device: Device, profile: Profile) -> Figures:
    """64 tokens with a cache, and computed anew, are those of float64."""
    made = decoding.model(device)
    _same_text("with a cache", decoding.cached(made))
    _same_text("without a cache", decoding.uncached(made))
    return Figures()


def _greedy_compiled(device: Device, profile: Profile) -> Figures:
    """64 tokens, each by the same program."""
    made = decoding.model(device)
    _same_text("compiled, with a cache", decoding.generated(made))
    _same_text("compiled", decoding.padded(made, gu.compile(made.forward)))
    return Figures()


def _same_text(how: str, got: Sequence[int]) -> None:
    want = decoding.reference().ids
    for at, (ours, wanted_id) in enumerate(zip(got, want, strict=True)):
        if ours != wanted_id:
            margin = decoding.reference().margins[at - len(decoding.PROMPT)]
            raise Failed(
                f"{how}, token {at} is {ours}, wanted {wanted_id}, whose logit is "
                f"{margin:.3g} above all others"
            )


def _logits(device: Device, profile: Profile) -> Figures:
    """The logits of the whole text at once."""
    made = decoding.model(device)
    return _near(decoding.logits_of(made, decoding.reference().ids[:-1]), profile)


def _logits_compiled(device: Device, profile: Profile) -> Figures:
    """The same by a program."""
    made = decoding.model(device)
    forward = gu.compile(made.forward)
    ids = gu.tensor([list(decoding.reference().ids[:-1])], dtype=int32, device=device)
    with gu.no_grad():
        return _near(forward(ids).numpy()[0], profile)


def _chunks(device: Device, profile: Profile) -> Figures:
    """The logits of the text, given to the cache some tokens at a time."""
    made = decoding.model(device)
    return _near(decoding.chunked(made, decoding.reference().ids[:-1]), profile)


def _chunks_compiled(device: Device, profile: Profile) -> Figures:
    """The same by programs, one for each number of tokens."""
    made = decoding.model(device)
    ids = decoding.reference().ids[:-1]
    return _near(decoding.chunked(made, ids, gu.compile), profile)


Decoding: TypeAlias = Callable[[Device, Profile], Figures]
DECODINGS: Final[Mapping[str, Mapping[str, Decoding]]] = {  # by runner
    "eager": {"greedy": _greedy, "logits": _logits, "chunks": _chunks},
    "compiled": {
        "greedy": _greedy_compiled, "logits": _logits_compiled, "chunks": _chunks_compiled,
    },
}  # fmt: skip


def decoded(check: Check, device: Device, profile: Profile) -> Figures:
    """What the GPT says."""
    return DECODINGS[check.id.layout][check.id.variant](device, profile)


def _near(got: np.ndarray[tuple[int, ...], np.dtype[np.floating]], profile: Profile) -> Figures:
    want = decoding.reference().logits
    limit = judging.limits(float32, profile).gradient * np.abs(want).max()
    expected = Expected(want, float32, np.full(want.shape, limit), profile)
    return _judged(expected.judge(got[len(decoding.PROMPT) - 1 :]), "token")

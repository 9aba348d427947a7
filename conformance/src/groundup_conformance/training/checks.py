"""The cases of level 3, and what is asked of each: figures come back, or `Failed` is raised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import numpy as np

from groundup.backends.api import Device, DeviceInfo
from groundup.dtypes import float32
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
    """Greedy decoding of the small GPT."""
    run = Training("gpt", "adamw", "eager", FULL)
    for question in DECODINGS:
        yield _check("generate", "gpt", "eager", question, run, info)


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
    made, want = decoding.model(device), decoding.reference().ids
    for how, decode in (("with", decoding.cached), ("without", decoding.uncached)):
        got = tuple(decode(made))
        if got != want:
            at = next(i for i, (a, b) in enumerate(zip(got, want, strict=True)) if a != b)
            margin = decoding.reference().margins[at - len(decoding.PROMPT)]
            raise Failed(
                f"{how} a cache, token {at} is {got[at]}, wanted {want[at]}, whose logit is "
                f"{margin:.3g} above all others"
            )
    return Figures()


def _logits(device: Device, profile: Profile) -> Figures:
    """The logits of the whole text at once."""
    made = decoding.model(device)
    return _near(decoding.logits_of(made, decoding.reference().ids[:-1]), profile)


def _chunks(device: Device, profile: Profile) -> Figures:
    """The logits of the text, given to the cache some tokens at a time."""
    made = decoding.model(device)
    return _near(decoding.chunked(made, decoding.reference().ids[:-1]), profile)


Decoding: TypeAlias = Callable[[Device, Profile], Figures]
DECODINGS: Final[Mapping[str, Decoding]] = {
    "greedy": _greedy,
    "logits": _logits,
    "chunks": _chunks,
}


def decoded(check: Check, device: Device, profile: Profile) -> Figures:
    """What the GPT says."""
    return DECODINGS[check.id.variant](device, profile)


def _near(got: np.ndarray[tuple[int, ...], np.dtype[np.floating]], profile: Profile) -> Figures:
    want = decoding.reference().logits
    limit = judging.limits(float32, profile).gradient * np.abs(want).max()
    expected = Expected(want, float32, np.full(want.shape, limit), profile)
    return _judged(expected.judge(got[len(decoding.PROMPT) - 1 :]), "token")

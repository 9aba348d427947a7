"""The cases of level 3: which there are, that the cpu passes some, that broken runs are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

import groundup as gu
from groundup.dtypes import bfloat16, float16
from groundup.models import gpt
from groundup_conformance.budgets import IEEE
from groundup_conformance.cases import Check
from groundup_conformance.running import Failed
from groundup_conformance.training import checks, resuming, runs
from groundup_conformance.training.models import NETWORKS
from groundup_conformance.training.runs import RECIPES, RUNNERS

DEVICE = gu.device_for("cpu")


def named(name: str) -> Check:
    generators = (checks.training, checks.resumption, checks.inference)
    found = [c for g in generators for c in g({}, DEVICE.info) if str(c.id) == name]
    assert len(found) == 1, name
    return found[0]


def test_every_network_and_recipe_has_its_cases() -> None:
    ids = [str(c.id) for c in checks.training({}, DEVICE.info)]
    assert len(ids) == len(set(ids))
    for network in NETWORKS:
        for recipe in RECIPES:
            for question in ("losses", "gradients", "update"):
                for runner in RUNNERS:
                    assert f"train[float32,{network}-{recipe},{runner},{question}]" in ids
        assert f"train[float16,{network}-adamw,eager,losses]" in ids


def test_dtypes_that_a_device_lacks_are_unsupported() -> None:
    known = {d: u for d, u in DEVICE.info.dtypes.items() if d not in (float16, bfloat16)}
    info = attrs.evolve(DEVICE.info, dtypes=known)
    left_out = {c.id.dtype for c in checks.training({}, info) if c.unsupported}
    assert left_out == {"float16", "bfloat16"}


@pytest.mark.parametrize("question", ["losses", "gradients", "update"])
def test_the_cpu_passes(question: str) -> None:
    figures = checks.trained(named(f"train[float32,mlp-adamw,eager,{question}]"), DEVICE, IEEE)
    assert figures.ratio is not None
    assert 0 < figures.ratio < 1


def test_a_failure_names_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    check = named("train[float32,mlp-sgd,eager,losses]")
    got = runs.wanted("mlp", "sgd")
    losses = got.losses.astype("float32")
    losses[7] *= 2
    monkeypatch.setattr(checks, "_trace", lambda *_: attrs.evolve(got, losses=losses))
    with pytest.raises(Failed, match=r"^step 7: ratio"):
        checks.trained(check, DEVICE, IEEE)


@pytest.mark.parametrize("network", NETWORKS)
def test_resumed_runs_of_the_cpu_pass(network: str, tmp_path: Path) -> None:
    checks.resumed(named(f"train[float32,{network}-adamw,eager,resume]"), DEVICE, tmp_path)


@pytest.mark.parametrize("lost", ["model.", "optimizer.", "random"])
def test_what_a_resumed_run_forgets_is_found(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = resuming.load_arrays
    runner = RUNNERS["eager"]
    fresh = resuming.Run.begin(NETWORKS["mlp"], RECIPES["adamw"], DEVICE, runner)
    fresh.advance(1)
    other = fresh.arrays()

    def load(path: Any) -> Any:
        arrays, metadata = real(path)
        kept = {k: other[k] if k.startswith(lost) else a for k, a in arrays.items()}
        return kept, metadata

    monkeypatch.setattr(resuming, "load_arrays", load)
    with pytest.raises(Failed, match="after resuming"):
        checks.resumed(named("train[float32,mlp-adamw,eager,resume]"), DEVICE, tmp_path)


def test_the_random_state_is_as_before(tmp_path: Path) -> None:
    before = gu.random.get_state(DEVICE)
    checks.resumed(named("train[float32,mlp-momentum,eager,resume]"), DEVICE, tmp_path)
    assert (gu.random.get_state(DEVICE) == before).all()


@pytest.mark.parametrize("question", ["greedy", "logits", "chunks"])
def test_the_cpu_decodes(question: str) -> None:
    checks.decoded(named(f"generate[float32,gpt,eager,{question}]"), DEVICE, IEEE)


def test_a_cache_that_hides_the_newest_key_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the logits: the tokens alone are too clear a choice to change."""
    real = gpt.ops.cached_attention

    def off_by_one(q: Any, keys: Any, values: Any, length: Any) -> Any:
        return real(q, keys, values, (length - 1).maximum(q.shape[2]))

    monkeypatch.setattr(gpt.ops, "cached_attention", off_by_one)
    with pytest.raises(Failed, match=r"^token \d+: ratio"):
        checks.decoded(named("generate[float32,gpt,eager,chunks]"), DEVICE, IEEE)


def test_a_cache_that_is_written_one_place_too_far_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = gpt.dispatch.update

    def shifted(op: Any, inputs: Any) -> None:
        if op.name == "dynamic_update_slice":
            buffer, rows, starts = inputs
            inputs = (buffer, rows, starts + gu.tensor([0, 0, 1, 0], device=DEVICE))
        real(op, inputs)

    monkeypatch.setattr(gpt.dispatch, "update", shifted)
    with pytest.raises(Failed):
        checks.decoded(named("generate[float32,gpt,eager,chunks]"), DEVICE, IEEE)


def test_a_cache_that_only_sees_its_beginning_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = gpt.ops.cached_attention

    def short(q: Any, keys: Any, values: Any, length: Any) -> Any:
        return real(q, keys, values, length.minimum(8))

    monkeypatch.setattr(gpt.ops, "cached_attention", short)
    with pytest.raises(Failed, match="with a cache, token"):
        checks.decoded(named("generate[float32,gpt,eager,greedy]"), DEVICE, IEEE)

"""The limits of level 3 accept correct arithmetic and refuse wrong one, by measurement."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs
import numpy as np
import pytest

import groundup as gu
from groundup import dispatch
from groundup.backends.api import Device
from groundup.dtypes import float32
from groundup.graph import Intercept, Setting, mode
from groundup.ops.op import Op, has
from groundup.tensor import Tensor
from groundup_conformance.budgets import IEEE, WGSL, Profile, Verdict
from groundup_conformance.training import decoding, judging, runs
from groundup_conformance.training.models import NETWORKS
from groundup_conformance.training.runs import FULL, PRECISIONS, RECIPES, Precision, Trace

Array = np.ndarray[Any, np.dtype[Any]]
Change = Callable[[Op, tuple[Array, ...], int, Array], None]


class Altered(Intercept):
    """Every result of floats is changed in its memory: (op, inputs, output number, result)."""

    def __init__(self, change: Change) -> None:
        super().__init__(self._handled)
        self._change = change

    def _handled(self, op: Op, inputs: tuple[Tensor, ...], device: Device | None) -> Any:
        results = dispatch.apply(op, inputs, device)
        if not has(op, "view") and op.accuracy.kind != "exact":
            arrays = tuple(x._view.native for x in inputs)
            for number, y in enumerate(results if isinstance(results, tuple) else (results,)):
                if y.dtype.is_floating:
                    self._change(op, arrays, number, y._view.native)
        return results


class Composed(Intercept):
    """Ops that the cpu has kernels for are composed all the same."""

    def __init__(self) -> None:
        super().__init__(self._handled)

    def _handled(self, op: Op, inputs: tuple[Tensor, ...], device: Device | None) -> Any:
        if not has(op, "compose") or op.aliases or op.broadcasts:
            return dispatch.apply(op, inputs, device)
        recorded = mode.grad and any(x.requires_grad for x in inputs)
        return dispatch.compose(op, inputs, device or inputs[0].device, recorded)


def noisy(ulps: float) -> Altered:
    """Every op errs by up to so many ULP."""
    rng = np.random.default_rng(0)

    def change(op: Op, inputs: tuple[Array, ...], number: int, y: Array) -> None:
        y *= (1 + rng.uniform(-1, 1, y.shape) * ulps * 2.0**-24).astype(y.dtype)

    return Altered(change)


def like_wgsl() -> Altered:
    """8 ULP everywhere, and tanh to 1e-5, as the WGSL specification allows."""
    rng = np.random.default_rng(0)

    def change(op: Op, inputs: tuple[Array, ...], number: int, y: Array) -> None:
        y *= (1 + rng.uniform(-1, 1, y.shape) * 8 * 2.0**-24).astype(y.dtype)
        if op.name in ("gelu", "gelu_backward"):
            share = np.abs(inputs[0] if op.name == "gelu" else inputs[1]) / 2
            y += (share * rng.uniform(-1e-5, 1e-5, y.shape)).astype(y.dtype)

    return Altered(change)


def coarse_products(bits: int) -> Altered:
    """Products read their operands with so many bits of the fraction: 10 is TF32, 7 bfloat16."""
    drop = 23 - bits
    device = gu.device_for("cpu")

    def rounded(x: Array) -> Tensor:
        if x.dtype != np.float32:
            return gu.from_numpy(x, device)
        half, mask = np.uint32(1 << (drop - 1)), np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)
        words = (np.ascontiguousarray(x).view(np.uint32) + half) & mask
        return gu.from_numpy(words.view(np.float32), device)

    def change(op: Op, inputs: tuple[Array, ...], number: int, y: Array) -> None:
        if op.name in ("linear", "matmul", "conv2d"):
            with Setting(grad=False, interceptor=None):
                y[...] = dispatch.run(op, tuple(map(rounded, inputs)), device).numpy()

    return Altered(change)


def scaled_gradient(factor: float) -> Altered:
    """The loss hands down a gradient that is a little too small."""

    def change(op: Op, inputs: tuple[Array, ...], number: int, y: Array) -> None:
        if op.name == "cross_entropy_backward":
            y *= np.float32(factor)

    return Altered(change)


def norm_without(term: str) -> Altered:
    """LayerNorm's gradient lacks the term that comes of the mean, or of the variance."""

    def change(op: Op, inputs: tuple[Array, ...], number: int, y: Array) -> None:
        if op.name != "layer_norm_backward" or number:
            return
        x, weight, grad = (a.astype(np.float64) for a in inputs)
        centred = x - x.mean(-1, keepdims=True)
        root = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        g, normal = grad * weight, centred * root
        by_mean = g.mean(-1, keepdims=True)
        by_variance = normal * (g * normal).mean(-1, keepdims=True)
        y[...] = root * (g - (by_variance if term == "mean" else by_mean))

    return Altered(change)


LEGAL: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "kernels": nullcontext,
    "compositions": Composed,
    "1 ULP": lambda: noisy(1),
    "4 ULP": lambda: noisy(4),
}
WRONG: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "TF32": lambda: coarse_products(10),
    "bfloat16": lambda: coarse_products(7),
    "gradient times 0.99": lambda: scaled_gradient(0.99),
    "no variance term": lambda: norm_without("variance"),
    "no mean term": lambda: norm_without("mean"),
}
RUNS = [("mlp", "sgd"), ("mlp", "momentum"), ("mlp", "adamw"), ("conv", "sgd"), ("gpt", "adamw")]


def verdicts(
    network: str, recipe: str, profile: Profile, precision: Precision = FULL
) -> Iterator[Verdict]:
    device = gu.device_for("cpu")
    got = runs.train(NETWORKS[network], RECIPES[recipe], device, precision=precision)
    want = runs.wanted(network, recipe)
    yield judging.judge_losses(got, want, precision, profile)
    yield judging.judge_gradients(got, want, precision, profile)
    if precision is FULL:
        yield judging.judge_update(got, network, recipe, profile)


@pytest.mark.parametrize("way", LEGAL)
@pytest.mark.parametrize(("network", "recipe"), RUNS)
def test_correct_arithmetic_is_accepted(network: str, recipe: str, way: str) -> None:
    with LEGAL[way]():
        ratios = [v.ratio for v in verdicts(network, recipe, IEEE)]
    assert max(ratios) < 0.8
    assert min(ratios) > 0.005, "a limit that nothing comes near refuses nothing either"


@pytest.mark.parametrize(("network", "recipe"), RUNS)
def test_what_wgsl_allows_is_accepted_there(network: str, recipe: str) -> None:
    with like_wgsl():
        assert max(v.ratio for v in verdicts(network, recipe, WGSL)) < 0.9


@pytest.mark.parametrize(
    ("network", "recipe", "way"),
    [
        (network, recipe, way)
        for (network, recipe), way in itertools.product(RUNS, WRONG)
        if network != "conv" or "term" not in way  # it has no LayerNorm
    ],
)
def test_wrong_arithmetic_is_refused(network: str, recipe: str, way: str) -> None:
    """Under both profiles; what wgsl refuses, ieee refuses, whose limits are lower."""
    with WRONG[way]():
        assert max(v.ratio for v in verdicts(network, recipe, WGSL)) > 3
    assert attrs.astuple(judging.limits(float32, IEEE)) < attrs.astuple(
        judging.limits(float32, WGSL)
    )


def test_a_small_gradient_shows_in_the_losses_under_descent() -> None:
    with scaled_gradient(0.99):
        for recipe in ("sgd", "momentum"):
            losses, *_ = verdicts("mlp", recipe, WGSL)
            assert losses.ratio > 30


def test_a_stale_learning_rate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = runs.wanted("mlp", "sgd")
    recipe = attrs.evolve(RECIPES["sgd"], name="stale")
    monkeypatch.setattr(runs.Recipe, "rate", lambda self, step: RECIPES["sgd"].lr)
    got = runs.train(NETWORKS["mlp"], recipe, gu.device_for("cpu"))
    assert not judging.judge_losses(got, wanted, FULL, WGSL).ok


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("way", ["kernels", "compositions", "4 ULP"])
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_mixed_precision_is_accepted(network: str, way: str, dtype: str) -> None:
    with LEGAL[way]():
        ratios = [v.ratio for v in verdicts(network, "adamw", IEEE, PRECISIONS[dtype])]
    assert min(ratios) > 0.05
    assert max(ratios) < 0.8


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("way", ["no variance term", "no mean term"])
def test_wrong_mixed_precision_is_refused(way: str, dtype: str) -> None:
    with WRONG[way]():
        assert max(v.ratio for v in verdicts("mlp", "adamw", IEEE, PRECISIONS[dtype])) > 1.2


def test_bfloat16_is_no_float16() -> None:
    coarse = attrs.evolve(PRECISIONS["bfloat16"], loss_scale=256.0)
    device = gu.device_for("cpu")
    got = runs.train(NETWORKS["mlp"], RECIPES["adamw"], device, precision=coarse)
    want = runs.wanted("mlp", "adamw")
    assert not judging.judge_gradients(got, want, PRECISIONS["float16"], IEEE).ok


@pytest.mark.parametrize(("network", "recipe"), RUNS)
def test_the_networks_learn(network: str, recipe: str) -> None:
    """Or a run whose updates do nothing would pass."""
    losses = runs.wanted(network, recipe).losses
    assert losses[-20:].mean() < 0.75 * losses[:3].mean()


def test_the_text_is_no_matter_of_luck() -> None:
    """No token is near to being another, and the GPT does not repeat itself."""
    text = decoding.reference()
    assert text.margins.min() > 0.5
    assert len(set(text.ids[-32:])) > 10


def trace_with(losses: Array) -> Trace:
    return attrs.evolve(runs.wanted("mlp", "sgd"), losses=losses.astype(np.float32))


def test_one_bad_step_is_found_and_named() -> None:
    want = runs.wanted("mlp", "sgd")
    losses = want.losses.copy()
    losses[123] *= 1 + 1e-3
    verdict = judging.judge_losses(trace_with(losses), want, FULL, IEEE)
    assert not verdict.ok
    assert verdict.index == (123,)


def test_a_run_that_ends_in_nan_is_refused() -> None:
    want = runs.wanted("mlp", "sgd")
    losses = want.losses.copy()
    losses[-1] = np.nan
    assert not judging.judge_losses(trace_with(losses), want, FULL, IEEE).ok

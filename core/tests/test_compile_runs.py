"""`groundup train` with compiled steps is `groundup train` without them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from groundup.backends.devices import device_for
from groundup.cli.app import run as command
from groundup.train.config import TrainConfig
from groundup.train.dataset import Dataset
from groundup.train.loop import start_line
from groundup.train.session import Session

CONFIG = TrainConfig(
    n_layer=1, n_head=2, n_embd=16, block_size=8, dropout=0.2, batch_size=3, max_iters=6,
    warmup_iters=2, lr_decay_iters=6, eval_iters=2, sample_tokens=0,
)  # fmt: skip


def session(**changes: Any) -> Session:
    tokens = np.random.default_rng(0).integers(0, 30, 500, np.int32)
    data = Dataset(
        train=tokens[:400], val=tokens[400:], vocab_size=30, tokenizer=None, source="random",
        val_bytes=None,
    )  # fmt: skip
    return Session(dataclasses.replace(CONFIG, **changes), data, device_for("cpu"))


def history(run: Session) -> list[Any]:
    found: list[Any] = []
    for step in range(5):
        found.append(run.read(run.advance()))
        if step == 2:
            found.append(run.validate())
    return found


@pytest.mark.parametrize(
    "changes", [{}, {"gradient_accumulation_steps": 3}, {"dtype": "bfloat16"}, {"grad_clip": 0.0}]
)
def test_runs_are_the_same_to_the_bit(changes: dict[str, Any]) -> None:
    eager = session(compile=False, **changes)
    expected = history(eager)
    compiled = session(**changes)  # which seeds the random numbers anew
    assert history(compiled) == expected
    before, after = eager.model.state_dict(), compiled.model.state_dict()
    for name, parameter in before.items():
        np.testing.assert_array_equal(parameter.numpy(), after[name].numpy(), err_msg=name)
    for step in (compiled._whole_step, compiled._micro_step, compiled._last_step):
        assert len(step.entries) in (0, 1, 2)  # micro-steps: the first finds no gradients
        assert step.retraces in ([], ["gradients that are there or not"])


def test_a_run_goes_on_from_a_compiled_one(tmp_path: Any) -> None:
    path = tmp_path / "state.safetensors"
    run = session()
    history(run)
    run.save(path)
    expected = [run.read(run.advance()) for _ in range(2)]
    for other in (run, session(), session(compile=False)):  # the first has its programs already
        other.load(path)
        assert [other.read(other.advance()) for _ in range(2)] == expected


def test_the_start_line_says_how_steps_run() -> None:
    assert "| steps compiled" in start_line(session())
    assert "| steps eager (--no-compile)" in start_line(session(compile=False))
    run = session(dtype="float16")
    assert "| steps eager (float16 reads its loss scale back)" in start_line(run)
    run.advance()


def test_the_flag(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    small = "--n-layer=1 --n-embd=16 --n-head=2 --block-size=16 --max-iters=2 --vocab-size=300"
    folder = tmp_path / "run"
    arguments = ["train", "tiny", *small.split(), "--sample-tokens=0", "--out", str(folder)]
    assert command([*arguments, "--no-compile"]) == 0
    assert "steps eager (--no-compile)" in capsys.readouterr().out

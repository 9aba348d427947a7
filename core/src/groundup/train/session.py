"""A run in progress: model, optimizer, data and the step it has reached; `loop` drives it."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import Any

import attrs
import numpy as np

import groundup as gu
from groundup import nn, optim, random
from groundup.autocast import autocast
from groundup.backends.api import Device
from groundup.data import Batches
from groundup.dtypes import as_dtype
from groundup.errors import CheckpointError, DataError, GroundupError, NonFiniteError
from groundup.files import StrPath
from groundup.generate import Sampling, generate_ids
from groundup.models import GPT, GPTConfig
from groundup.program.compile import Compiled
from groundup.program.executable import Executable
from groundup.serialization import Array, load_arrays, save_arrays
from groundup.spans import span
from groundup.tensor import Tensor
from groundup.train.config import TrainConfig
from groundup.train.dataset import Dataset
from groundup.train.schedule import learning_rate

_VALIDATION = 1  # added to the seed, so that validation windows are not those of training


@attrs.frozen
class Measured:
    """What one step measured, still on the device: reading it waits for the step to end."""

    loss: Tensor
    grad_norm: Tensor


class Session:
    """Everything that changes while training: all of it is in `save`, and comes back by `load`."""

    def __init__(self, config: TrainConfig, dataset: Dataset, device: Device) -> None:
        self.config, self.dataset, self.device = config, dataset, device
        random.manual_seed(config.seed)
        self.model = GPT(gpt_config(config, dataset.vocab_size)).to(device)
        # Weights are drawn where tensors are made by default: dropout must not depend on where.
        random.manual_seed((config.seed + 1) % 2**64)
        self.optimizer = optim.AdamW(
            self.model.parameter_groups(config.weight_decay),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
        )
        self.scaler = optim.GradScaler() if config.dtype == "float16" else None
        self.step = 0
        self.best_val_loss: float | None = None
        self.best_step = 0  # the step that had it
        self._train = self._batches(dataset.train, config.seed, "the training data")
        self._val = None
        if len(dataset.val):
            self._val = self._batches(dataset.val, config.seed + _VALIDATION, "the validation data")
        self._whole_step = self._maybe_compiled(self._whole)
        self._micro_step = self._maybe_compiled(self._micro)
        self._last_step = self._maybe_compiled(self._last)
        self._loss_of = self._maybe_compiled(self._loss)

    def _batches(self, tokens: Any, seed: int, name: str) -> Batches:
        config = self.config
        return Batches(tokens, config.batch_size, config.block_size, seed % 2**64, name)

    @span("data")
    def _tensors(self, batches: Batches, number: int) -> tuple[Tensor, Tensor]:
        x, y = batches.batch(number)
        return gu.from_numpy(x, self.device), gu.from_numpy(y, self.device)

    def _precision(self) -> AbstractContextManager[Any]:
        if self.config.dtype == "float32":
            return nullcontext()
        return autocast(as_dtype(self.config.dtype))

    @property
    def compiled(self) -> bool:
        """Whether steps are programs: not with loss scaling, which reads a number every time."""
        return self.config.compile and self.scaler is None

    def _maybe_compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return gu.compile(function) if self.compiled else function

    def advance(self) -> Measured:
        """One update: gradients of the micro-steps' mean loss, clipped, then AdamW."""
        parts = self.config.gradient_accumulation_steps
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step + 1)
        batches = (self._tensors(self._train, self.step * parts + part) for part in range(parts))
        if parts == 1:
            loss, norm = self._whole_step(*next(batches))
        else:
            losses = [self._micro_step(*batch) for batch in batches]
            loss, norm = reduce(operator.add, losses), self._last_step()
        self.step += 1
        return Measured(loss, norm)

    def programs(self) -> list[tuple[str, int, Executable]]:
        """What a step consists of: name, how often it runs in a step, program.

        They are there after the first step, if the run is compiled.
        """
        parts = self.config.gradient_accumulation_steps
        if parts == 1:
            return [("step", 1, _executables(self._whole_step)[0])]
        first, *others = _executables(self._micro_step)
        update = ("update", 1, _executables(self._last_step)[0])
        return [
            ("first micro-step", 1, first),
            *[("other micro-steps", parts - 1, other) for other in others],
            update,
        ]

    def _whole(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """A step of one micro-step: its loss and the gradients' norm."""
        return self._micro(x, y), self._last()

    def _micro(self, x: Tensor, y: Tensor) -> Tensor:
        """Add the gradients of one micro-step; returns its share of the loss."""
        with self._precision():
            loss: Tensor = self.model(x, y) / self.config.gradient_accumulation_steps
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return loss.detach()

    def _last(self) -> Tensor:
        """Step the optimizer and forget the gradients; returns their norm before clipping."""
        norm = self._update()
        self.optimizer.zero_grad()
        return norm

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        """For validation."""
        with gu.no_grad(), self._precision():
            loss: Tensor = self.model(x, y)
        return loss

    def _update(self) -> Tensor:
        """Step the optimizer; returns the gradients' norm before clipping."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
            norm = nn.clip_grad_norm_(self.model.parameters(), self._largest_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            return norm
        norm = nn.grad_norm(self.model.parameters())
        self.optimizer.step(grad_scale=nn.clip_factor(norm, self._largest_norm))
        return norm

    @property
    def _largest_norm(self) -> float:
        return self.config.grad_clip or math.inf

    @property
    def learning_rate(self) -> float:
        """The one that the last step used."""
        return learning_rate(self.config, self.step)

    def read(self, measured: Measured) -> tuple[float, float]:
        """Loss and gradient norm as numbers. Raises NonFiniteError: training has failed."""
        loss, norm = float(measured.loss.item()), float(measured.grad_norm.item())
        scaled = self.config.dtype == "float16"  # whose scaler skips steps that overflow
        for name, value in (("loss", loss), ("gradient's norm", norm)):
            if not np.isfinite(value) and not (scaled and name != "loss"):
                raise NonFiniteError(
                    f"the {name} became {value} at step {self.step}",
                    hint="begin again with a lower --learning-rate; the last saved state is intact",
                )
        return loss, norm

    @span("eval")
    def validate(self) -> float | None:
        """The mean loss of `eval_iters` batches, always the same ones; None without such data."""
        if self._val is None:
            return None
        self.model.eval()
        losses = []
        for number in range(self.config.eval_iters):
            losses.append(float(self._loss_of(*self._tensors(self._val, number)).item()))
        return float(np.mean(losses))

    def note_validation(self, val_loss: float) -> None:
        """Remember the best."""
        if self.best_val_loss is None or val_loss < self.best_val_loss:
            self.best_val_loss, self.best_step = val_loss, self.step

    @span("eval")
    def sample(self) -> str | None:
        """Some text as the model writes it now; None without a tokenizer or if none is wanted."""
        tokenizer = self.dataset.tokenizer
        if tokenizer is None or not self.config.sample_tokens:
            return None
        try:
            prompt = tokenizer.encode(self.config.sample_prompt).tolist()
        except DataError:  # a character that the data does not have
            prompt = []
        start = prompt or self.dataset.train[:1].tolist()
        self.model.eval()
        new = generate_ids(
            self.model,
            start,
            max_new_tokens=self.config.sample_tokens,
            sampling=Sampling(temperature=0.8),
            seed=self.config.seed,
        )
        return tokenizer.decode([*start, *new])

    # ---- state ----

    @span("save")
    def save(self, path: StrPath) -> None:
        """Write all that changes while training into one file, whole or not at all."""
        parts = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        arrays = {
            f"{part}.{k}": t.numpy() for part, state in parts.items() for k, t in state.items()
        }
        arrays["random"] = random.get_state(self.device)
        record = {
            "step": self.step,
            "best_val_loss": self.best_val_loss,
            "best_step": self.best_step,
            "data": self.dataset.fingerprint,
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }
        save_arrays(path, arrays, {"groundup": json.dumps(record)})

    def load(self, path: StrPath) -> None:
        """Go back to where `save` was called. Raises CheckpointError, DataError for other data."""
        arrays, metadata = load_arrays(path)
        record = _record(path, metadata)
        if record["data"] != self.dataset.fingerprint:
            raise DataError(
                f"the data is not what the run began with ({self.dataset.fingerprint},"
                f" was {record['data']})",
                hint="resume with the same files",
            )
        try:
            self.model.load_state_dict(_part(arrays, "model."))
            self.optimizer.load_state_dict(_part(arrays, "optimizer."))
            if self.scaler is not None:
                self.scaler.load_state_dict(record["scaler"])
            random.set_state(arrays["random"], self.device)
        except (GroundupError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} holds no state of this run: {error}") from error
        self.step, self.best_step = record["step"], record["best_step"]
        self.best_val_loss = record["best_val_loss"]


def _executables(function: Any) -> list[Executable]:
    return (
        [entry.executable for entry in function.entries] if isinstance(function, Compiled) else []
    )


def _record(path: StrPath, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What `save` noted beside the arrays. Raises CheckpointError."""
    try:
        record = json.loads(metadata["groundup"])
        best = record["best_val_loss"]
        if min(operator.index(record["step"]), operator.index(record["best_step"])) < 0:
            raise ValueError(f"step {record['step']}, best_step {record['best_step']}")
        if best is not None and not isinstance(best, float):
            raise TypeError(f"best_val_loss {best!r}")
        return {"data": record["data"], "scaler": record["scaler"], **record}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds no state of a run: {error!r}") from error


def _part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}


def gpt_config(config: TrainConfig, vocab_size: int) -> GPTConfig:
    """The model of a run."""
    return GPTConfig(
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        block_size=config.block_size,
        vocab_size=vocab_size,
        dropout=config.dropout,
        bias=config.bias,
    )

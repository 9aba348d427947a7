"""The training loop: step, measure, and from time to time validate and save.

Exit codes: 0 when all steps are done, 128 + the signal's number (130 for Ctrl-C) when interrupted;
either way the run is saved and can be resumed.
"""

from __future__ import annotations

import math
import time
from typing import Any

from groundup import support
from groundup.backends.api import Device
from groundup.backends.devices import by_default, default_reason, device_for
from groundup.data import load_tokenizer
from groundup.errors import ConfigError
from groundup.models.checkpoint import hf_config, save_weights
from groundup.serialization import write_json
from groundup.spans import span
from groundup.train.config import TrainConfig
from groundup.train.dataset import Dataset, load_dataset
from groundup.train.folder import RunFolder
from groundup.train.interrupt import Interrupt
from groundup.train.plot import plot_losses
from groundup.train.progress import Progress, progress
from groundup.train.session import Session
from groundup.train.trackers import Tracking, open_tracking


def run(config: TrainConfig, *, resume: bool = False) -> int:
    """Train as `config` says, in the folder `config.out`, and return the exit code.

    Raises the errors of its parts: ConfigError, DataError, CheckpointError, BackendUnavailable;
    before anything is written, where that is possible. NonFiniteError if training fails.
    """
    if config.out is None:
        raise ConfigError("a run needs a folder", hint="name one with --out")
    folder = RunFolder(config.out)
    if not resume:
        folder.check_free()
    device = device_for(config.device)
    saved = load_tokenizer(folder.tokenizer) if resume and folder.tokenizer.exists() else None
    session = begin(config, load_dataset(config, saved), device)
    tracking = open_tracking(config)
    folder.create()
    with folder.alone():
        if resume:
            session.load(folder.state)
        else:
            folder.check_free()  # another run may have begun there meanwhile
        return _run(session, folder, tracking, resume=resume)


def begin(config: TrainConfig, dataset: Dataset, device: Device) -> Session:
    """A run before its first step. Weights are drawn on the cpu: they have the same bits wherever
    they go from there.
    """
    with by_default(device_for("cpu")):
        return Session(config, dataset, device)


def _run(session: Session, folder: RunFolder, tracking: Tracking, *, resume: bool) -> int:
    config = session.config
    shown = progress(config.max_iters, session.step)
    shown.say(start_line(session))
    if session.step >= config.max_iters:
        shown.say(f"nothing is left to do: the run has {session.step} steps; raise --max-iters")
        return 0
    with Interrupt() as interrupt, shown:
        _prepare(session, folder, resume=resume)
        try:
            train(session, folder, interrupt, shown, tracking)
        finally:
            tracking.finish()
    shown.say(_last_line(session, folder, interrupt.signal))
    return 0 if interrupt.signal is None else 128 + interrupt.signal


def _prepare(session: Session, folder: RunFolder, *, resume: bool) -> None:
    """Make the folder one that can be resumed from here."""
    if resume:
        folder.sweep()
        folder.truncate(session.step)
    if not folder.tokenizer.exists():
        session.dataset.save_tokenizer(folder.tokenizer)
    # Also when resuming: what was changed now holds when the run is resumed again.
    record = {"train": session.config.record()}
    write_json(folder.config, hf_config(session.model.config) | record)
    if not resume:
        save(session, folder)


def train(
    session: Session, folder: RunFolder, interrupt: Interrupt, shown: Progress, tracking: Tracking
) -> None:
    """Steps up to `max_iters` or an interrupt. What is logged is a function of the step alone."""
    config = session.config
    begun, step_before = time.perf_counter(), session.step
    while session.step < config.max_iters:
        measured = session.advance()
        stop = interrupt.signal is not None  # asked once, so that the rest of the turn agrees on it
        evaluated = session.step % config.eval_interval == 0 or session.step == config.max_iters
        logged = evaluated or session.step % config.log_interval == 0 or session.step == 1
        if logged or stop:
            loss, norm = session.read(measured)  # nothing is saved behind a loss that is not finite
        if logged:
            tokens = (session.step - step_before) * config.tokens_per_step
            speed = tokens / (time.perf_counter() - begun)
            line: dict[str, Any] = {"step": session.step, "loss": loss}
            if evaluated:
                line |= _evaluate(session, folder)
                shown.say(_summary(session, line.get("val_loss")))
            line["lr"] = session.learning_rate
            line["grad_norm"] = norm if math.isfinite(norm) else None  # a step that float16 skips
            line["tokens_per_second"] = round(speed, 1)
            folder.append_metrics(line)
            tracking.log(line)
            shown.show(line)
        if evaluated or stop:
            save(session, folder)
        if stop:
            return
        if logged:
            begun, step_before = time.perf_counter(), session.step


def _evaluate(session: Session, folder: RunFolder) -> dict[str, float]:
    """Validate and write a sample; returns what the validation adds to the metrics."""
    val_loss = session.validate()
    text = session.sample()
    if text is not None:
        note = "" if val_loss is None else f"val_loss {val_loss:.4f} "
        folder.append_sample(session.step, f"{note}===", text)
    if val_loss is None:
        return {}
    session.note_validation(val_loss)
    return {"val_loss": val_loss}


@span("save")
def save(session: Session, folder: RunFolder) -> None:
    """Write state, weights (if they are the ones to keep) and the plot."""
    best = session.best_step == session.step or session.best_val_loss is None  # none is better
    if session.config.always_save_checkpoint or best:
        save_weights(session.model, folder.weights)
    session.save(folder.state)
    metrics = folder.read_metrics()
    if metrics:
        plot_losses(metrics, folder.plot)


def start_line(session: Session) -> str:
    """Where and what: device and why, dtype, parameters, tokens, how many ops are native."""
    config, data = session.config, session.dataset
    why = f"--device {config.device}" if config.device else default_reason()
    chosen = "the default" if config.dtype == "float32" else "--dtype; weights float32"
    parts = [
        f"device {session.device.info.name} ({why})",
        f"{config.dtype} ({chosen})",
        f"{session.model.num_parameters() / 1e6:.2f}M parameters",
        f"{len(data.train):,} training and {len(data.val):,} validation tokens of {data.vocab_size}"
        f" kinds ({data.source})",
        str(support.summary(session.device)),
        _how_it_runs(session),
    ]
    if session.step:
        parts.append(f"resumed at step {session.step}")
    return " | ".join(parts)


def _how_it_runs(session: Session) -> str:
    if session.compiled:
        return "steps compiled"
    reason = "--no-compile" if not session.config.compile else "float16 reads its loss scale back"
    return f"steps eager ({reason})"


def _summary(session: Session, val_loss: float | None) -> str:
    """A validation loss per token and, where the text's bytes are known, in bits per byte."""
    if val_loss is None:
        return f"step {session.step}: saved; there is no validation data"
    text = f"step {session.step}: validation loss {val_loss:.4f} per token"
    length = session.dataset.bytes_per_token
    return f"{text}, {val_loss / math.log(2) / length:.3f} bits per byte" if length else text


def _last_line(session: Session, folder: RunFolder, signal: int | None) -> str:
    if signal is not None:
        return (
            f"interrupted and saved at step {session.step}; "
            f"go on with: groundup train --resume {folder.path}"
        )
    return f"done; try: groundup generate {folder.path} --prompt ..."

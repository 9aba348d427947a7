"""The learning rate as a function of the step: nanoGPT's, which is GPT-3's."""

from __future__ import annotations

import math

from groundup.train.config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate of the update number `step`, from 1: linear warm-up, then a cosine down to min_lr.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017;
    Brown et al., "Language models are few-shot learners", 2020, appendix B.
    """
    if not config.decay_lr:
        return config.learning_rate
    if step <= config.warmup_iters:
        return config.learning_rate * step / config.warmup_iters
    if step >= config.lr_decay_iters:
        return config.min_lr
    done = (step - config.warmup_iters) / (config.lr_decay_iters - config.warmup_iters)
    height = 0.5 * (1 + math.cos(math.pi * done))
    return config.min_lr + height * (config.learning_rate - config.min_lr)

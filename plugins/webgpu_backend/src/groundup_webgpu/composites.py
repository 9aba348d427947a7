"""The table of composite ops that have kernels here: op -> what makes its stages.

A maker gets the op, the layouts of inputs and outputs, and the machine. The operands of stages are
numbered through: the outputs, then the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup_webgpu.attention import attention, attention_backward, cached_attention
from groundup_webgpu.channels import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
)
from groundup_webgpu.deviations import mse_loss, nll_loss, var
from groundup_webgpu.draws import advance_state, normal, random_bits, uniform
from groundup_webgpu.fusion import fused
from groundup_webgpu.loss import cross_entropy, cross_entropy_backward
from groundup_webgpu.machine import Machine
from groundup_webgpu.normalization import normalized, normalized_backward
from groundup_webgpu.optimizer import global_norm, update
from groundup_webgpu.ordering import cumsum, ordered
from groundup_webgpu.placing import clamp, concat, one_hot, rotary, triangle
from groundup_webgpu.pools import pool, pool_backward
from groundup_webgpu.recasts import recast
from groundup_webgpu.selection import categorical, dropout, extremum_at
from groundup_webgpu.softmax import logsumexp, softmax, softmax_backward
from groundup_webgpu.source import Stage

Maker: TypeAlias = Callable[
    [Any, Sequence[Layout], Sequence[Layout], Machine], "list[Stage] | Declined"
]

COMPOSITES: Final[dict[str, Maker]] = {
    "layer_norm": normalized, "rms_norm": normalized,
    "add_layer_norm": normalized, "add_rms_norm": normalized,
    "layer_norm_backward": normalized_backward, "rms_norm_backward": normalized_backward,
    "add_layer_norm_backward": normalized_backward, "add_rms_norm_backward": normalized_backward,
    "softmax": softmax, "log_softmax": softmax, "logsumexp": logsumexp,
    "softmax_backward": softmax_backward, "log_softmax_backward": softmax_backward,
    "cross_entropy": cross_entropy, "cross_entropy_backward": cross_entropy_backward,
    "scaled_dot_product_attention": attention,
    "cached_attention": cached_attention,
    "scaled_dot_product_attention_backward": attention_backward,
    "clamp": clamp, "concat": concat, "tril": triangle, "triu": triangle, "one_hot": one_hot,
    "sort": ordered, "topk": ordered, "cumsum": cumsum,
    "max_pool2d": pool, "avg_pool2d": pool,
    "max_pool2d_backward": pool_backward, "avg_pool2d_backward": pool_backward,
    "batch_norm": batch_norm, "batch_norm_backward": batch_norm_backward,
    "group_norm": group_norm, "group_norm_backward": group_norm_backward,
    "var": var, "mse_loss": mse_loss, "nll_loss": nll_loss,
    "random_bits": random_bits, "uniform": uniform, "normal": normal,
    "advance_state": advance_state,
    "rotary_embedding": rotary, "categorical": categorical,
    "argmax": extremum_at, "argmin": extremum_at, "dropout": dropout,
    "adamw": update, "sgd": update, "global_norm": global_norm, "fused": fused, "recast": recast,
}  # fmt: skip
# Whose inputs are read in row-major order.
IN_ORDER: Final = frozenset(
    {
        "adamw", "sgd", "global_norm", "mse_loss",
        "batch_norm", "batch_norm_backward", "group_norm", "group_norm_backward",
    }
)  # fmt: skip
# Each element of whose aliased outputs is written after the last read of it.
IN_PLACE: Final = frozenset({"advance_state", "adamw", "sgd", "fused", "dynamic_update_slice"})

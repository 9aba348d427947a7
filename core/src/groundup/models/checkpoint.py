"""GPT's weights as Hugging Face's `transformers` writes GPT-2: `config.json`, `model.safetensors`.

There a linear layer's matrix is stored (in, out), the transpose of ours; names may carry the prefix
`transformer.`; causal masks and a copy of the tied head may lie beside the weights and are passed
over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from groundup.backends.devices import DeviceLike
from groundup.errors import CheckpointError, ConfigError
from groundup.files import StrPath
from groundup.models.gpt import GPT, GPTConfig
from groundup.serialization import Array, load_arrays, read_json, save_arrays, write_json

WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"

_TRANSPOSED: Final = re.compile(r"h\.\d+\.(attn|mlp)\.(c_attn|c_proj|c_fc)\.weight")
_PASSED_OVER: Final = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight")
# our name, Hugging Face's
_SIZES: Final = {
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
    "block_size": "n_positions",
    "vocab_size": "vocab_size",
}
# What another GPT-2 may have set, and the one value that this one implements.
_FIXED: Final[Mapping[str, object]] = {
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
}


def save_gpt(model: GPT, folder: StrPath) -> None:
    """Write `config.json` and `model.safetensors` into `folder`. Raises CheckpointError."""
    write_json(Path(folder) / CONFIG, hf_config(model.config))
    save_weights(model, Path(folder) / WEIGHTS)


def save_weights(model: GPT, path: StrPath) -> None:
    """Write the weights, in Hugging Face's names and layout, to `path`. Raises CheckpointError."""
    arrays = {name: t.detach().numpy() for name, t in model.state_dict().items()}
    save_arrays(path, _transposed(arrays), {"format": "pt"})


def load_gpt(folder: StrPath, device: DeviceLike = None) -> GPT:
    """The GPT in `folder`: one of ours or Hugging Face's GPT-2, in evaluation mode.

    Raises CheckpointError for files that are missing, damaged, or of another architecture.
    """
    record = read_json(Path(folder) / CONFIG)
    config = gpt_config(record, Path(folder) / CONFIG)
    arrays = hf_weights(Path(folder) / WEIGHTS)
    model = GPT(config)
    if device is not None:
        model.to(device)
    try:
        model.load_state_dict(arrays)
    except CheckpointError as error:
        raise CheckpointError(
            f"{Path(folder) / WEIGHTS}: {error.message}", hint=error.hint
        ) from None
    model.eval()
    return model


def hf_weights(path: StrPath) -> dict[str, Array]:
    """The arrays of a GPT-2 file by our names, matrices (out, in). Raises CheckpointError."""
    arrays, _ = load_arrays(path)
    named = {name.removeprefix("transformer."): array for name, array in arrays.items()}
    return _transposed({k: v for k, v in named.items() if not _PASSED_OVER.fullmatch(k)})


def hf_config(config: GPTConfig) -> dict[str, Any]:
    """`config.json` as `transformers` reads it; `bias` is ours."""
    sizes = {theirs: getattr(config, ours) for ours, theirs in _SIZES.items()}
    dropout = {f"{place}_pdrop": config.dropout for place in ("resid", "embd", "attn")}
    kind = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    return {**kind, **sizes, **dropout, **_FIXED, "bias": config.bias}


def gpt_config(record: Mapping[str, Any], path: StrPath) -> GPTConfig:
    """The sizes in a `config.json`. Raises CheckpointError if it is not of a GPT-2 like ours."""
    if record.get("model_type") != "gpt2":
        kind = record.get("model_type", "no model type")
        raise CheckpointError(f"{path}: this is no GPT-2 ({kind})")
    for name, value in _FIXED.items():
        if record.get(name, value) != value:
            raise CheckpointError(
                f"{path}: {name} {record[name]!r} is not supported, only {value!r}"
            )
    missing = [theirs for theirs in _SIZES.values() if type(record.get(theirs)) is not int]
    if missing:
        raise CheckpointError(f"{path}: no size is given for {', '.join(missing)}")
    sizes = {ours: record[theirs] for ours, theirs in _SIZES.items()}
    dropout, bias = record.get("resid_pdrop", 0.0), record.get("bias", True)
    try:
        return GPTConfig(**sizes, dropout=float(dropout), bias=bool(bias))
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _transposed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Matrices of linear layers turned from (in, out) to (out, in), or back."""
    return {
        name: array.T if _TRANSPOSED.fullmatch(name) and array.ndim == 2 else array
        for name, array in arrays.items()
    }

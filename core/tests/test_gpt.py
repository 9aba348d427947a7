"""GPT: shapes, initial loss, causality, PyTorch's gradients, Hugging Face's files, the cache."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import random
from groundup.errors import CheckpointError, ConfigError, DomainError, OutOfMemory, ShapeError
from groundup.models import GPT, GPTConfig, KVCache, load_gpt, save_gpt
from groundup.models.checkpoint import hf_weights
from groundup.serialization import load_arrays, save_arrays, write_json

SMALL = GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=61)


def make(config: GPTConfig = SMALL, seed: int = 3) -> GPT:
    random.manual_seed(seed)
    return GPT(config)


def shaken(model: GPT) -> GPT:
    """Biases and norms away from 0 and 1, so that a mistake with them shows."""
    rng = np.random.default_rng(5)
    arrays = {k: t.numpy() for k, t in model.state_dict().items()}
    model.load_state_dict(
        {k: a + 0.1 * rng.standard_normal(a.shape).astype(np.float32) for k, a in arrays.items()}
    )
    return model


def some_ids(*shape: int, seed: int = 0) -> gu.Tensor:
    host = np.random.default_rng(seed).integers(0, SMALL.vocab_size, shape)
    return gu.from_numpy(host.astype(np.int32))


def test_shapes_and_parameter_count() -> None:
    model = make()
    assert model(some_ids(3, 7)).shape == (3, 7, 61)
    assert model(some_ids(3, 16), some_ids(3, 16)).shape == ()
    V, T, C, L = 61, 16, 32, 2
    assert model.num_parameters() == V * C + T * C + L * (12 * C * C + 13 * C) + 2 * C


def test_gpt_12m_has_12_3_million_parameters() -> None:
    config = GPTConfig(n_layer=6, n_head=6, n_embd=384, block_size=256, vocab_size=4096)
    assert round(make(config).num_parameters() / 1e6, 1) == 12.3


@pytest.mark.parametrize("bias", [True, False])
def test_the_initial_loss_is_that_of_a_guess(bias: bool) -> None:
    model = make(GPTConfig(**{**vars(SMALL), "bias": bias}))
    loss = model(some_ids(8, 16), some_ids(8, 16, seed=1)).item()
    assert abs(loss - math.log(61)) < 0.05
    assert any(name.endswith("bias") for name, _ in model.named_parameters()) is bias


def test_residual_projections_start_smaller() -> None:
    config = GPTConfig(n_layer=8, n_head=2, n_embd=64, block_size=8, vocab_size=32)
    weights = {name: t.numpy() for name, t in make(config).state_dict().items()}
    assert abs(weights["h.0.attn.c_attn.weight"].std() - 0.02) < 1e-3
    assert abs(weights["h.3.mlp.c_proj.weight"].std() - 0.02 / 4) < 3e-4
    assert not weights["h.3.mlp.c_proj.bias"].any()


def test_no_token_sees_a_later_one() -> None:
    model = make().eval()
    ids = some_ids(1, 10)
    changed = ids.numpy()
    changed[0, 6] = (changed[0, 6] + 1) % SMALL.vocab_size
    before, after = model(ids).detach().numpy(), model(gu.from_numpy(changed)).detach().numpy()
    np.testing.assert_array_equal(before[:, :6], after[:, :6])
    assert np.abs(before[:, 6:] - after[:, 6:]).max(axis=-1).min() > 0


def test_refusals() -> None:
    model = make()
    with pytest.raises(ShapeError, match="17 tokens do not fit the context of 16"):
        model(some_ids(1, 17))
    with pytest.raises(DomainError, match="61"):
        model(gu.tensor([[61]], dtype="int32"))
    with pytest.raises(ConfigError, match="n_embd 10 is not a multiple of n_head 4"):
        GPTConfig(n_embd=10, n_head=4)
    with pytest.raises(ConfigError, match="at least 1"):
        GPTConfig(n_layer=0)


def test_dropout_only_in_training_and_different_each_time() -> None:
    model = make(GPTConfig(**{**vars(SMALL), "dropout": 0.5}))
    ids, targets = some_ids(4, 8), some_ids(4, 8, seed=1)
    first, second = (model(ids, targets).item() for _ in range(2))
    assert first != second
    model.eval()
    first, second = (model(ids, targets).item() for _ in range(2))
    assert first == second


# ---- PyTorch ----


def torch_loss(torch: Any, config: GPTConfig, w: dict[str, Any], ids: Any, targets: Any) -> Any:
    """GPT-2 written out in PyTorch, on weights with our names and layout."""
    F = torch.nn.functional
    B, T = ids.shape
    C, H = config.n_embd, config.n_head

    def norm(x: Any, name: str) -> Any:
        return F.layer_norm(x, (C,), w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(x: Any, name: str) -> Any:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    x = w["wte.weight"][ids] + w["wpe.weight"][:T]
    for layer in range(config.n_layer):
        block = f"h.{layer}"
        qkv = linear(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn")
        q, k, v = (part.view(B, T, H, C // H).transpose(1, 2) for part in qkv.split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + linear(y.transpose(1, 2).reshape(B, T, C), f"{block}.attn.c_proj")
        inner = F.gelu(linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"), approximate="tanh")
        x = x + linear(inner, f"{block}.mlp.c_proj")
    logits = norm(x, "ln_f") @ w["wte.weight"].T
    return F.cross_entropy(logits.view(B * T, -1), targets.view(-1).long())


def test_loss_and_gradients_agree_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    model = shaken(make())
    weights = {
        name: torch.tensor(t.numpy(), requires_grad=True) for name, t in model.state_dict().items()
    }
    ids, targets = some_ids(4, 16), some_ids(4, 16, seed=1)
    theirs = torch_loss(
        torch, SMALL, weights, torch.tensor(ids.numpy()), torch.tensor(targets.numpy())
    )
    theirs.backward()
    ours = model(ids, targets)
    ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        got, wanted = parameter.grad.numpy(), weights[name].grad.numpy()
        # The norm of the difference: single entries of a gradient may be sums that cancel.
        # (a key's bias shifts all scores of a row alike: its gradient is 0 but for rounding)
        scale = np.linalg.norm(wanted)
        assert np.linalg.norm(got - wanted) <= 1e-5 * scale, name


# ---- files ----


def test_files_are_in_hugging_faces_layout(tmp_path: Path) -> None:
    model = make()
    save_gpt(model, tmp_path)
    arrays, metadata = load_arrays(tmp_path / "model.safetensors")
    shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes["wte.weight"] == (61, 32)
    assert shapes["wpe.weight"] == (16, 32)
    assert shapes["h.1.attn.c_attn.weight"] == (32, 96)
    assert shapes["h.1.attn.c_attn.bias"] == (96,)
    assert shapes["h.1.mlp.c_fc.weight"] == (32, 128)
    assert shapes["h.1.mlp.c_proj.weight"] == (128, 32)
    assert shapes["ln_f.bias"] == (32,)
    assert len(shapes) == 2 + 2 * 12 + 2
    assert metadata == {"format": "pt"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "gpt2"
    assert (config["n_positions"], config["n_embd"], config["vocab_size"]) == (16, 32, 61)


def test_round_trip(tmp_path: Path) -> None:
    model = shaken(make()).eval()
    save_gpt(model, tmp_path)
    loaded = load_gpt(tmp_path)
    assert loaded.config == SMALL
    assert not loaded.training
    ids = some_ids(2, 9)
    np.testing.assert_array_equal(model(ids).detach().numpy(), loaded(ids).detach().numpy())


def test_a_file_as_hugging_face_writes_it(tmp_path: Path) -> None:
    """The prefix, the causal masks and the copy of the head, as in `openai-community/gpt2`."""
    model = shaken(make()).eval()
    save_gpt(model, tmp_path)
    arrays, _ = load_arrays(tmp_path / "model.safetensors")
    theirs = {f"transformer.{name}": array for name, array in arrays.items()}
    theirs["transformer.h.0.attn.bias"] = np.tril(np.ones((1, 1, 16, 16), np.uint8))
    theirs["transformer.h.0.attn.masked_bias"] = np.array(-1e4, np.float32)
    theirs["lm_head.weight"] = arrays["wte.weight"]
    save_arrays(tmp_path / "model.safetensors", theirs)
    ids = some_ids(2, 9)
    loaded = load_gpt(tmp_path)
    np.testing.assert_array_equal(model(ids).detach().numpy(), loaded(ids).detach().numpy())
    assert set(hf_weights(tmp_path / "model.safetensors")) == set(model.state_dict())


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    save_gpt(make(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())

    def refused(text: str, **changes: object) -> None:
        write_json(tmp_path / "config.json", {**config, **changes})
        with pytest.raises(CheckpointError, match=text) as error:
            load_gpt(tmp_path)
        assert "\n" not in str(error.value)

    refused("this is no GPT-2 .llama.", model_type="llama")
    refused("no size is given for n_layer", n_layer="two")
    refused("activation_function 'relu' is not supported", activation_function="relu")
    refused("n_embd 32 is not a multiple of n_head 5", n_head=5)
    refused("wpe.weight", n_positions=32)
    refused("h.2.ln_1.weight", n_layer=3)
    write_json(tmp_path / "config.json", config)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        load_gpt(tmp_path)


# ---- the cache ----


def test_cached_logits_are_those_without_a_cache() -> None:
    model = shaken(make()).eval()
    ids = some_ids(2, 16)
    cache = KVCache(SMALL, batch=2)
    with gu.no_grad():
        whole = model(ids).numpy()
        parts = [model(ids[:, :5], cache=cache)]
        parts += [model(ids[:, t : t + 1], cache=cache) for t in range(5, 16)]
    cached = np.concatenate([part.numpy() for part in parts], axis=1)
    np.testing.assert_allclose(cached, whole, rtol=1e-4, atol=1e-5)
    assert cache.used == int(cache.position) == 16
    with pytest.raises(ShapeError, match="17 tokens do not fit"):
        model(ids[:, :1], cache=cache)
    assert cache.used == int(cache.position) == 16


def test_a_call_that_fails_leaves_the_cache_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = shaken(make()).eval()
    ids = some_ids(1, 8)
    cache = KVCache(SMALL)

    def full(x: gu.Tensor) -> gu.Tensor:
        raise OutOfMemory("no room")

    with gu.no_grad():
        whole = model(ids).numpy()
        model(ids[:, :5], cache=cache)
        with monkeypatch.context() as patch:
            patch.setattr(model.ln_f, "forward", full)
            with pytest.raises(OutOfMemory):
                model(ids[:, 5:], cache=cache)
        assert cache.used == int(cache.position) == 5
        rest = model(ids[:, 5:], cache=cache).numpy()
    np.testing.assert_allclose(rest, whole[:, 5:], rtol=1e-4, atol=1e-5)


def test_one_compiled_program_decodes_every_place() -> None:
    model = shaken(make()).eval()
    ids = some_ids(1, 16)
    cache = KVCache(SMALL)
    step = gu.compile(lambda token: model.logits(token, cache))
    with gu.no_grad():
        whole = model(ids).numpy()
        model(ids[:, :5], cache=cache)
        for _ in range(2):
            for t in range(5, 16):
                cache.reserve(1)
                token = ids[:, t : t + 1].clone()
                with gu.counting() as counts:
                    logits = step(token)
                assert counts.waits == 0
                np.testing.assert_allclose(logits.numpy()[0, 0], whole[0, t], rtol=1e-4, atol=1e-5)
            cache.rewind(5)
    assert len(step.programs) == 1
    with pytest.raises(ShapeError, match="cannot go back to 6 tokens, there are 5"):
        cache.rewind(6)


def test_parameter_groups_decay_matrices_only() -> None:
    model = make()
    matrices, vectors = model.parameter_groups(0.1)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    sizes = [sum(p.size for p in group["params"]) for group in (matrices, vectors)]
    assert sum(sizes) == model.num_parameters()
    assert all(p.ndim == 2 for p in matrices["params"])

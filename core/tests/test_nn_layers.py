"""Layers against PyTorch: same weights by name, outputs, gradients and five optimizer steps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import nn, optim
from groundup.errors import ConfigError, ShapeError
from groundup.nn import functional as F
from groundup.random import manual_seed, randn

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def seeded() -> None:
    manual_seed(0)


def data(*shape: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).normal(size=shape), np.float32)


def copy_weights(ours: nn.Module, theirs: Any) -> None:
    """PyTorch's weights into ours, by name; batch norms get statistics that are not 0 and 1."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        for i, (name, tensor) in enumerate(theirs.state_dict().items()):
            if tensor.is_floating_point():
                tensor.copy_(torch.tensor(0.5 * data(*tensor.shape, seed=i + 1)))
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    ours.load_state_dict({name: t.numpy() for name, t in theirs.state_dict().items()})


def close(got: Any, wanted: Any, name: str = "", tolerance: float = 1e-5) -> None:
    got = got.detach().numpy()
    wanted = wanted.detach().numpy()
    scale = max(float(np.abs(wanted).max(initial=0.0)), 1e-3)
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * scale, err_msg=name)


def first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def compare(ours: nn.Module, theirs: Any, x: Array, steps: int = 5) -> None:
    """Outputs, input gradients, parameter gradients, then `steps` of SGD, weights and buffers."""
    torch = pytest.importorskip("torch")
    copy_weights(ours, theirs)
    weight = data(*first(theirs(torch.tensor(x))).shape, seed=99)
    copy_weights(ours, theirs)
    optimizer = optim.SGD(ours.parameters(), lr=0.05, momentum=0.9)
    reference = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        a, b = gu.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        got, wanted = first(ours(a)), first(theirs(b))
        close(got, wanted, "output")
        optimizer.zero_grad()
        reference.zero_grad()
        (got * gu.tensor(weight)).mean().backward()
        (wanted * torch.tensor(weight)).mean().backward()
        close(a.grad, b.grad, "gradient of x")
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            close(p.grad, q.grad, f"gradient of {name}", 2e-5)
        optimizer.step()
        reference.step()
    for name, tensor in theirs.state_dict().items():
        close(ours.state_dict()[name], tensor, name)


CASES: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "linear": (lambda m: m.Linear(5, 3), (4, 5)),
    "linear-batched": (lambda m: m.Linear(5, 3, bias=False), (2, 3, 5)),
    "layer-norm": (lambda m: m.LayerNorm(6), (4, 6)),
    "layer-norm-2d": (lambda m: m.LayerNorm((3, 6), eps=1e-3), (4, 3, 6)),
    "layer-norm-no-bias": (lambda m: m.LayerNorm(6, bias=False), (4, 6)),
    "rms-norm": (lambda m: m.RMSNorm(6, eps=1e-6), (4, 6)),
    "rms-norm-2d": (lambda m: m.RMSNorm((3, 6), eps=1e-3), (4, 3, 6)),
    "group-norm": (lambda m: m.GroupNorm(3, 6), (4, 6, 5)),
    "group-norm-images": (lambda m: m.GroupNorm(2, 4), (2, 4, 3, 5)),
    "batch-norm-1d": (lambda m: m.BatchNorm1d(6), (8, 6)),
    "batch-norm-1d-length": (lambda m: m.BatchNorm1d(3, momentum=0.3), (4, 3, 5)),
    "batch-norm-2d": (lambda m: m.BatchNorm2d(3), (4, 3, 5, 2)),
    "conv1d": (lambda m: m.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9)),
    "conv1d-groups": (lambda m: m.Conv1d(4, 6, 3, dilation=2, groups=2, bias=False), (2, 4, 9)),
    "conv2d": (lambda m: m.Conv2d(3, 4, 3, padding=1), (2, 3, 6, 5)),
    "conv2d-sizes": (lambda m: m.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), groups=2), (2, 4, 7, 6)),
    "conv2d-dilated": (lambda m: m.Conv2d(2, 2, 3, dilation=2), (1, 2, 8, 8)),
    "conv-transpose2d": (lambda m: m.ConvTranspose2d(3, 4, 3, 2, 1, 1), (2, 3, 4, 5)),
    "conv-transpose2d-groups": (lambda m: m.ConvTranspose2d(4, 6, 2, groups=2), (2, 4, 3, 3)),
    "lstm": (lambda m: m.LSTM(4, 5), (6, 3, 4)),
    "lstm-layers": (lambda m: m.LSTM(4, 5, num_layers=2, batch_first=True), (3, 6, 4)),
    "gru": (lambda m: m.GRU(4, 5), (6, 3, 4)),
    "gru-layers": (lambda m: m.GRU(4, 5, num_layers=2, bias=False, batch_first=True), (3, 6, 4)),
    "chain": (
        lambda m: m.Sequential(m.Linear(5, 8), m.GELU(), m.Linear(8, 8), m.SiLU(), m.Linear(8, 3)),
        (4, 5),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_layer_agrees_with_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    build, shape = CASES[name]
    compare(build(nn), build(torch.nn), data(*shape))


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_training_a_small_network_agrees_with_pytorch(kind: str) -> None:
    torch = pytest.importorskip("torch")

    def build(m: Any) -> Any:
        return m.Sequential(m.Linear(6, 16), m.LayerNorm(16), m.Tanh(), m.Linear(16, 4))

    ours, theirs = build(nn), build(torch.nn)
    copy_weights(ours, theirs)
    optimizer = getattr(optim, kind)(ours.parameters(), lr=0.01, weight_decay=0.1)
    reference = getattr(torch.optim, kind)(theirs.parameters(), lr=0.01, weight_decay=0.1)
    ids = np.arange(12) % 4
    for step in range(5):
        x = data(12, 6, seed=step)
        got = nn.CrossEntropyLoss()(ours(gu.tensor(x)), gu.tensor(ids))
        wanted = torch.nn.CrossEntropyLoss()(theirs(torch.tensor(x)), torch.tensor(ids))
        close(got, wanted)
        for loss, target in ((got, optimizer), (wanted, reference)):
            target.zero_grad()
            loss.backward()
            target.step()
    for name, tensor in theirs.state_dict().items():
        close(ours.state_dict()[name], tensor, name)


@pytest.mark.parametrize("name", ["batch-norm-1d", "batch-norm-2d"])
def test_batch_norm_evaluates_by_its_running_averages(name: str) -> None:
    torch = pytest.importorskip("torch")
    build, shape = CASES[name]
    ours, theirs = build(nn), build(torch.nn)
    compare(ours, theirs, data(*shape), steps=2)
    seen = theirs.num_batches_tracked.item()
    assert ours.num_batches_tracked.item() == seen > 0
    ours.eval()
    theirs.eval()
    x = data(*shape, seed=7)
    a, b = gu.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    got, wanted = ours(a), theirs(b)
    close(got, wanted)
    (got * got).sum().backward()
    (wanted * wanted).sum().backward()
    close(a.grad, b.grad)
    assert ours.num_batches_tracked.item() == seen


def test_batch_norm_keeps_narrow_inputs_and_wide_statistics() -> None:
    layer = nn.BatchNorm1d(3)
    wanted = layer(gu.tensor(data(64, 3)))
    other = nn.BatchNorm1d(3).to("bfloat16")
    got = other(gu.tensor(data(64, 3), dtype="bfloat16"))
    assert got.dtype.name == "bfloat16"
    np.testing.assert_allclose(
        got.detach().astype("float32").numpy(), wanted.detach().numpy(), rtol=0.02, atol=0.02
    )


def test_batch_norm_refuses_what_has_no_statistics() -> None:
    with pytest.raises(ShapeError, match="one value per channel has no variance"):
        nn.BatchNorm1d(3)(gu.ones(1, 3))
    with pytest.raises(ShapeError, match="3 channels on axis 1 and rank 4"):
        nn.BatchNorm2d(3)(gu.ones(2, 3, 4))
    layer = nn.BatchNorm1d(3)
    with pytest.raises(gu.errors.GroundupError):
        layer(gu.ones(4, 3, dtype="int32"))
    assert layer.num_batches_tracked.item() == 0
    assert layer.running_mean.tolist() == [0.0] * 3
    assert layer.eval()(gu.ones(1, 3)).shape == (1, 3)


def test_recurrent_states_go_in_and_out() -> None:
    torch = pytest.importorskip("torch")
    x, h, c = data(5, 2, 4), data(2, 2, 3, seed=1), data(2, 2, 3, seed=2)
    for kind, states in (("LSTM", (h, c)), ("GRU", (h,))):
        ours, theirs = (getattr(m, kind)(4, 3, num_layers=2) for m in (nn, torch.nn))
        copy_weights(ours, theirs)
        given = tuple(gu.tensor(s, requires_grad=True) for s in states)
        given_theirs = tuple(torch.tensor(s, requires_grad=True) for s in states)
        pack = (lambda s: s) if kind == "LSTM" else (lambda s: s[0])
        got, last = ours(gu.tensor(x), pack(given))
        wanted, last_theirs = theirs(torch.tensor(x), pack(given_theirs))
        close(got, wanted)
        for a, b in zip(last, last_theirs, strict=True):
            close(a, b)
        (first(last) * got[-1]).sum().backward()
        (first(last_theirs) * wanted[-1]).sum().backward()
        for a, b in zip(given, given_theirs, strict=True):
            close(a.grad, b.grad)


def test_recurrent_refusals() -> None:
    layer = nn.LSTM(4, 3)
    with pytest.raises(ShapeError, match="rank 3 and end in 4"):
        layer(gu.ones(5, 2, 3))
    with pytest.raises(ShapeError, match="rank 3"):
        layer(gu.ones(5, 4))
    with pytest.raises(ShapeError, match="at least one step"):
        layer(gu.ones(0, 2, 4))
    with pytest.raises(ShapeError, match=r"initial state must be \(1, 2, 3\)"):
        nn.GRU(4, 3)(gu.ones(5, 2, 4), gu.ones(1, 3, 3))
    with pytest.raises(ConfigError, match="at least one layer"):
        nn.GRU(4, 3, num_layers=0)


def test_recurrent_dropout_acts_between_layers_only() -> None:
    x = randn(5, 2, 4)
    single = nn.GRU(4, 3, dropout=0.9)
    np.testing.assert_array_equal(single(x)[0].detach().numpy(), single(x)[0].detach().numpy())
    double = nn.GRU(4, 3, num_layers=2, dropout=0.5)
    assert not np.array_equal(double(x)[0].detach().numpy(), double(x)[0].detach().numpy())
    double.eval()
    np.testing.assert_array_equal(double(x)[0].detach().numpy(), double(x)[0].detach().numpy())


# ---- attention ----


def pair(bias: bool = True) -> tuple[nn.MultiHeadAttention, Any]:
    torch = pytest.importorskip("torch")
    ours = nn.MultiHeadAttention(8, 2, bias=bias)
    theirs = torch.nn.MultiheadAttention(8, 2, bias=bias, batch_first=True)
    copy_weights(ours, theirs)
    return ours, theirs


@pytest.mark.parametrize("mode", ["plain", "causal", "mask", "additive", "no-bias"])
def test_self_attention_agrees_with_pytorch(mode: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = pair(bias=mode != "no-bias")
    x = data(3, 5, 8)
    a, b = gu.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    allowed = np.tril(np.ones((5, 5), bool))
    allowed[3, 1] = mode == "causal"
    arguments: dict[str, Any] = {
        "causal": {"causal": True}, "mask": {"mask": gu.tensor(allowed)},
        "additive": {"mask": gu.tensor(np.where(allowed, 0.5, -2.0).astype(np.float32))},
    }.get(mode, {})  # fmt: skip
    mask = None
    if mode in ("causal", "mask"):
        mask = torch.tensor(~allowed)
    elif mode == "additive":
        mask = torch.tensor(np.where(allowed, 0.5, -2.0).astype(np.float32))
    got = ours(a, **arguments)
    wanted = theirs(b, b, b, attn_mask=mask, need_weights=False)[0]
    close(got, wanted)
    (got * got).sum().backward()
    (wanted * wanted).sum().backward()
    close(a.grad, b.grad, "x", 2e-5)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        close(p.grad, q.grad, name, 2e-5)


def test_cross_attention_agrees_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = pair()
    q, k, v = data(2, 3, 8), data(2, 6, 8, seed=1), data(2, 6, 8, seed=2)
    got = ours(gu.tensor(q), gu.tensor(k), gu.tensor(v))
    wanted = theirs(torch.tensor(q), torch.tensor(k), torch.tensor(v), need_weights=False)[0]
    close(got, wanted)
    got.sum().backward()
    wanted.sum().backward()
    close(ours.in_proj_weight.grad, theirs.in_proj_weight.grad)
    close(ours(gu.tensor(q), gu.tensor(k)), ours(gu.tensor(q), gu.tensor(k), gu.tensor(k)))


def test_grouped_queries_share_keys_and_values() -> None:
    grouped = nn.MultiHeadAttention(8, 4, num_kv_heads=2)
    full = nn.MultiHeadAttention(8, 4)
    weight, bias = (t.detach().numpy() for t in (grouped.in_proj_weight, grouped.in_proj_bias))
    assert weight.shape == (8 + 2 * 4, 8)

    def spread(rows: Array) -> Array:
        q, k, v = np.split(rows, [8, 12])
        wide = [np.repeat(t.reshape(2, 2, -1), 2, axis=0).reshape(8, -1) for t in (k, v)]
        return np.concatenate([q.reshape(8, -1), *wide])

    state = {name: t.numpy() for name, t in grouped.state_dict().items()}
    state["in_proj_weight"], state["in_proj_bias"] = spread(weight), spread(bias).ravel()
    full.load_state_dict(state)
    x = randn(2, 5, 8)
    close(grouped(x, causal=True), full(x, causal=True))


def test_attention_drops_in_training_only() -> None:
    layer = nn.MultiHeadAttention(8, 2, dropout=0.5)
    x = randn(2, 6, 8)
    assert not np.array_equal(layer(x).detach().numpy(), layer(x).detach().numpy())
    layer.eval()
    np.testing.assert_array_equal(layer(x).detach().numpy(), layer(x).detach().numpy())


def test_attention_refusals() -> None:
    for arguments in ((8, 3), (8, 0), (8, 4, 0.0, True, 3)):
        with pytest.raises(ConfigError, match="does not split"):
            nn.MultiHeadAttention(*arguments)


# ---- embedding, dropout, pooling, activations, losses ----


def test_embedding_agrees_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    ids = np.array([[1, 2, 2], [0, 3, 6]])
    for padding in (None, 2, -1):
        ours, theirs = nn.Embedding(7, 4, padding), torch.nn.Embedding(7, 4, padding)
        if padding is not None:
            assert not ours.weight.detach().numpy()[padding].any()
        copy_weights(ours, theirs)
        got, wanted = ours(gu.tensor(ids)), theirs(torch.tensor(ids))
        close(got, wanted)
        (got * got).sum().backward()
        (wanted * wanted).sum().backward()
        close(ours.weight.grad, theirs.weight.grad)
    with pytest.raises(ConfigError, match="padding_idx 7"):
        nn.Embedding(7, 4, 7)


def test_dropout() -> None:
    layer = nn.Dropout(0.25)
    x = gu.ones(200, 300).requires_grad_()
    y = layer(x)
    kept = y.detach().numpy() != 0
    assert abs(kept.mean() - 0.75) < 0.01
    np.testing.assert_allclose(y.detach().numpy()[kept], 1 / 0.75, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(np.asarray(x.grad) != 0, kept)
    assert layer.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert not nn.Dropout(1.0)(x).detach().numpy().any()
    with pytest.raises(ConfigError, match=r"Dropout: a probability lies in \[0, 1\], got 1.5"):
        nn.Dropout(1.5)


@pytest.mark.parametrize("kind", ["MaxPool2d", "AvgPool2d"])
@pytest.mark.parametrize("arguments", [(2,), (3, 2), ((3, 2), (2, 1), 1)], ids=str)
def test_pooling_agrees_with_pytorch(kind: str, arguments: tuple[Any, ...]) -> None:
    torch = pytest.importorskip("torch")
    x = data(2, 3, 8, 7)
    a, b = gu.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    got, wanted = getattr(nn, kind)(*arguments)(a), getattr(torch.nn, kind)(*arguments)(b)
    close(got, wanted)
    (got * got).sum().backward()
    (wanted * wanted).sum().backward()
    close(a.grad, b.grad)


@pytest.mark.parametrize("kind", ["ReLU", "GELU", "SiLU", "Tanh", "Sigmoid", "Identity"])
def test_activations_agree_with_pytorch(kind: str) -> None:
    torch = pytest.importorskip("torch")
    x = data(3, 4)
    close(getattr(nn, kind)()(gu.tensor(x)), getattr(torch.nn, kind)()(torch.tensor(x)))


def test_softmax_and_tanh_gelu() -> None:
    torch = pytest.importorskip("torch")
    x = data(3, 4)
    close(nn.Softmax(0)(gu.tensor(x)), torch.nn.Softmax(0)(torch.tensor(x)))
    close(nn.GELU("tanh")(gu.tensor(x)), torch.nn.GELU("tanh")(torch.tensor(x)))
    with pytest.raises(ConfigError, match="approximate must be"):
        nn.GELU("fast")


def test_losses_agree_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x, y, ids = data(4, 5), data(4, 5, seed=1), np.array([0, 4, 2, 2])
    for reduction in ("mean", "sum", "none"):
        close(
            nn.CrossEntropyLoss(2, reduction)(gu.tensor(x), gu.tensor(ids)),
            torch.nn.CrossEntropyLoss(ignore_index=2, reduction=reduction)(
                torch.tensor(x), torch.tensor(ids)
            ),
        )
        close(
            nn.MSELoss(reduction)(gu.tensor(x), gu.tensor(y)),
            torch.nn.MSELoss(reduction=reduction)(torch.tensor(x), torch.tensor(y)),
        )


# ---- starting values and printing ----


@pytest.mark.parametrize("name", CASES)
def test_layers_start_as_pytorchs_do(name: str) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    build, _ = CASES[name]
    for (path, tensor), (other, wanted) in zip(
        build(nn).state_dict().items(), build(torch.nn).state_dict().items(), strict=True
    ):
        assert path == other
        assert tensor.shape == tuple(wanted.shape)
        values = tensor.numpy()
        if wanted.numel() and wanted.float().std(correction=0) == 0:
            np.testing.assert_array_equal(values, wanted.numpy())
        elif wanted.numel() > 30:  # uniform in the same range
            assert np.abs(values).max() / wanted.abs().max().item() == pytest.approx(1, abs=0.15)


def test_layers_take_a_dtype_and_say_what_they_are() -> None:
    layer = nn.Linear(2, 3, device="cpu", dtype="bfloat16")
    assert {p.dtype.name for p in layer.parameters()} == {"bfloat16"}
    printed = {
        "LayerNorm((4,), eps=1e-05, bias=True)": nn.LayerNorm(4),
        "RMSNorm((4,), eps=1e-06)": nn.RMSNorm(4),
        "GroupNorm(2, 4, eps=1e-05)": nn.GroupNorm(2, 4),
        "BatchNorm2d(4, eps=1e-05, momentum=0.1)": nn.BatchNorm2d(4),
        "Conv2d(1, 2, kernel_size=(3, 3), stride=2, bias=False)": nn.Conv2d(1, 2, 3, 2, bias=False),
        "MaxPool2d(kernel_size=2, stride=2, padding=0)": nn.MaxPool2d(2),
        "Embedding(5, 2, padding_idx=0)": nn.Embedding(5, 2, 0),
        "LSTM(2, 3, num_layers=2)": nn.LSTM(2, 3, 2),
        "Softmax(axis=-1)": nn.Softmax(),
        "CrossEntropyLoss(ignore_index=-100, reduction='mean')": nn.CrossEntropyLoss(),
    }
    for text, module in printed.items():
        assert repr(module) == text
    attention = nn.MultiHeadAttention(8, 4, num_kv_heads=2)
    assert repr(attention).startswith(
        "MultiHeadAttention(8, num_heads=4, num_kv_heads=2, dropout=0.0\n"
    )


def test_bad_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match="must not be negative"):
        nn.Linear(-1, 3)
    with pytest.raises(ConfigError, match="4 and 6 channels do not split in 4 groups"):
        nn.Conv2d(4, 6, 3, groups=4)
    with pytest.raises(ConfigError, match="5 channels do not split in 2 groups"):
        nn.GroupNorm(2, 5)
    for layer in (nn.LayerNorm((3, 4)), nn.RMSNorm((3, 4))):
        with pytest.raises(ShapeError, match=r"last axes of x must be \(3, 4\)"):
            layer(gu.ones(2, 4, 3))
        with pytest.raises(ShapeError, match="last axes"):
            layer(gu.ones(4))


def test_functions_under_pytorchs_names() -> None:
    x = randn(3, 4)
    np.testing.assert_array_equal(F.embedding(gu.tensor([2, 0]), x).numpy(), x.numpy()[[2, 0]])
    assert F.dropout(x, training=False) is x
    for name in F.__all__:
        assert callable(getattr(F, name))

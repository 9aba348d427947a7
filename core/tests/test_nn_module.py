from collections.abc import Iterator

import numpy as np
import pytest

import groundup as gu
from groundup import nn
from groundup.errors import AutogradError, CheckpointError, ConfigError, DTypeError, ShapeError
from groundup.random import manual_seed, randn


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        self.norm1 = nn.LayerNorm(width)
        self.fc = nn.Linear(width, width, bias=False)

    def forward(self, x: gu.Tensor) -> gu.Tensor:
        return x + self.fc(self.norm1(x))


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        self.blocks = nn.ModuleList([Block(width), Block(width)])
        self.scale = nn.Parameter(gu.ones(width))
        self.register_buffer("steps", gu.zeros((), dtype="int32"))
        self.register_buffer("mask", gu.ones(width), persistent=False)

    def forward(self, x: gu.Tensor) -> gu.Tensor:
        for block in self.blocks:
            x = block(x)
        return x * self.scale


@pytest.fixture(autouse=True)
def seeded() -> None:
    manual_seed(0)


def names(pairs: Iterator[tuple[str, object]]) -> list[str]:
    return [name for name, _ in pairs]


def test_tree_is_found_by_attribute_in_order() -> None:
    net = Net()
    own = ["scale"]
    blocks = [
        f"blocks.{i}.{n}" for i in (0, 1) for n in ("norm1.weight", "norm1.bias", "fc.weight")
    ]
    assert names(net.named_parameters()) == own + blocks
    assert names(net.named_buffers()) == ["steps", "mask"]
    assert list(net.state_dict()) == ["scale", "steps", *blocks]
    assert names(net.named_modules())[:4] == ["", "blocks", "blocks.0", "blocks.0.norm1"]
    assert names(net.named_children()) == ["blocks"]
    assert net.num_parameters() == 4 + 2 * (4 + 4 + 16)


def test_attributes_change_their_role_with_their_value() -> None:
    net = nn.Module()
    net.thing = nn.Parameter(gu.ones(2))
    assert names(net.named_parameters()) == ["thing"]
    net.thing = nn.Identity()
    assert names(net.named_parameters()) == []
    assert names(net.named_children()) == ["thing"]
    net.thing = None
    assert names(net.named_children()) == []
    net.thing = gu.ones(2)  # an ordinary tensor is no state
    assert net.state_dict() == {}
    net.other = nn.Parameter(gu.ones(1))
    del net.other
    assert names(net.named_parameters()) == []
    with pytest.raises(AttributeError, match="other"):
        _ = net.other


def test_frozen_parameters_stay_parameters() -> None:
    net = Net().requires_grad_(False)
    assert len(list(net.parameters())) == 7
    assert not any(p.requires_grad for p in net.parameters())
    net.scale = gu.zeros(4)
    assert "scale" in net.state_dict()
    net.requires_grad_()
    assert all(p.requires_grad for p in net.parameters())


def test_computed_tensors_cannot_be_parameters() -> None:
    net = Net()
    with pytest.raises(AutogradError, match=r"Net\.scale"):
        net.scale = net.scale * 2
    net.doubled = net.scale * 2  # an ordinary attribute
    assert "doubled" not in net.state_dict()


def test_shared_parameters_come_once_but_are_saved_under_each_name() -> None:
    net = nn.Module()
    net.a, net.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    net.b.weight = net.a.weight
    assert names(net.named_parameters()) == ["a.weight"]
    assert list(net.state_dict()) == ["a.weight", "b.weight"]
    net.c = net.a
    assert names(net.named_modules()) == ["", "a", "b"]


def test_buffers_need_a_free_name() -> None:
    net = Net()
    with pytest.raises(ConfigError, match="'forward' cannot name a buffer"):
        net.register_buffer("forward", gu.ones(1))
    with pytest.raises(ConfigError, match=r"'a\.b' cannot"):
        net.register_buffer("a.b", gu.ones(1))
    net.steps = gu.ones((), dtype="int32")  # stays a buffer
    assert net.state_dict()["steps"].item() == 1


def test_state_round_trip_through_arrays_and_tensors() -> None:
    source, target = Net(), Net()
    x = randn(2, 4)
    assert not np.allclose(source(x).detach().numpy(), target(x).detach().numpy())
    kept = list(target.parameters())
    arrays = {name: t.numpy().astype("float64" if t.dtype.is_floating else "int64") for name, t in
              source.state_dict().items()}  # fmt: skip
    assert target.load_state_dict(arrays) == nn.Loaded((), ())
    np.testing.assert_array_equal(source(x).detach().numpy(), target(x).detach().numpy())
    assert all(a is b for a, b in zip(kept, target.parameters(), strict=True))
    assert target.scale.dtype is gu.dtypes.float32
    target.load_state_dict(Net().state_dict())
    assert not np.allclose(source(x).detach().numpy(), target(x).detach().numpy())


def test_state_dict_shares_memory_without_graph() -> None:
    net = Net()
    state = net.state_dict()
    assert not any(t.requires_grad for t in state.values())
    with gu.no_grad():
        net.scale.assign_(5.0)
    assert state["scale"].tolist() == [5.0] * 4


def test_loading_tells_all_that_is_wrong_and_changes_nothing() -> None:
    net = Net()
    state = {name: gu.zeros_like(t) for name, t in net.state_dict().items()}
    state["blocks.0.norm1.wieght"] = state.pop("blocks.0.norm1.weight")
    state["extra"] = gu.zeros(1)
    state["blocks.1.fc.weight"] = gu.zeros(4, 5)
    state["steps"] = gu.zeros(())
    before = {name: t.numpy() for name, t in net.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    assert "\n" not in text
    assert "1 missing: blocks.0.norm1.weight" in text
    assert (
        "2 unexpected: blocks.0.norm1.wieght (did you mean blocks.0.norm1.weight?), extra" in text
    )
    assert "blocks.1.fc.weight is (4, 5), wanted (4, 4)" in text
    assert "steps is groundup.float32, wanted int32" in text or "steps is float32" in text
    with pytest.raises(CheckpointError, match="2 do not fit"):
        net.load_state_dict(state, strict=False)
    for name, t in net.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[name])


def test_loading_what_fits() -> None:
    net = Net()
    loaded = net.load_state_dict({"scale": np.full(4, 3.0), "extra": np.ones(1)}, strict=False)
    assert loaded.unexpected_keys == ("extra",)
    assert len(loaded.missing_keys) == 7
    assert net.scale.tolist() == [3.0] * 4


def test_long_lists_are_cut() -> None:
    with pytest.raises(CheckpointError, match=r"20 missing: 0\.weight.* and 12 more"):
        nn.Sequential(*[nn.Linear(1, 1) for _ in range(10)]).load_state_dict({})


def test_errors_name_the_innermost_module() -> None:
    net = Net()
    net.blocks[1].norm1.weight = nn.Parameter(gu.ones(5))
    with pytest.raises(ShapeError, match=r"layer_norm.*in blocks\.1\.norm1"):
        net(gu.ones(2, 4))
    wrong = nn.Linear(3, 2)
    with pytest.raises(ShapeError, match="in Linear"):
        wrong(gu.ones(2, 4))
    assert net.blocks[0](gu.ones(2, 4)).shape == (2, 4)  # the next call works


def test_modes_reach_all_modules() -> None:
    net = Net()
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())


def test_to_keeps_identity_and_casts_floats_only() -> None:
    net = Net()
    kept = list(net.parameters())
    (net(gu.ones(1, 4)).sum()).backward()
    assert net.to("bfloat16") is net
    assert all(a is b for a, b in zip(kept, net.parameters(), strict=True))
    assert {p.dtype.name for p in net.parameters()} == {"bfloat16"}
    assert net.scale.grad is not None
    assert net.scale.grad.dtype is gu.dtypes.bfloat16
    assert net.mask.dtype is gu.dtypes.bfloat16
    assert net.steps.dtype is gu.dtypes.int32
    assert all(p.requires_grad and p.is_leaf for p in net.parameters())
    net.to("cpu").to(gu.dtypes.float32)
    assert net(gu.ones(1, 4)).dtype is gu.dtypes.float32
    with pytest.raises(DTypeError, match="cannot become int32"):
        net.to("int32")


def test_zero_grad_and_apply() -> None:
    net = Net()
    net(gu.ones(1, 4)).sum().backward()
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    order: list[str] = []
    net.apply(lambda module: order.append(type(module).__name__))
    assert order == ["LayerNorm", "Linear", "Block"] * 2 + ["ModuleList", "Net"]
    net.requires_grad_(False).zero_grad()  # frozen ones have no gradient to forget


def test_repr_is_a_tree() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Dropout(0.1)))
    assert repr(net) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Dropout(p=0.1)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.Identity()) == "Identity()"


def test_lists_and_dicts() -> None:
    layers = nn.ModuleList([nn.Identity()])
    layers.append(nn.ReLU())
    layers[0] = nn.Tanh()
    assert len(layers) == 2
    assert [type(m).__name__ for m in layers] == ["Tanh", "ReLU"]
    assert isinstance(layers[-1], nn.ReLU)
    assert names(layers[1:].named_children()) == ["0"]
    with pytest.raises(IndexError):
        layers[2]
    with pytest.raises(ConfigError, match="holds modules, not int"):
        layers.append(3)  # type: ignore[arg-type]
    chain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert chain(gu.ones(5, 2)).shape == (5, 1)
    assert isinstance(chain[:2], nn.Sequential)
    assert chain[:2](gu.ones(5, 2)).shape == (5, 3)
    table = nn.ModuleDict({"a": nn.ReLU()})
    table["b"] = nn.Linear(1, 1)
    assert list(table) == ["a", "b"]
    assert "a" in table
    assert "c" not in table
    assert names(table.named_parameters()) == ["b.weight", "b.bias"]
    with pytest.raises(ConfigError, match="'keys' cannot name"):
        table["keys"] = nn.ReLU()
    with pytest.raises(KeyError):
        table["c"]

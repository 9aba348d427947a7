"""Random bits against the published generator, distributions, generators and their states."""

from __future__ import annotations

import numpy as np
import pytest

import groundup as gu
from groundup import ops, random
from groundup.errors import ConfigError, DTypeError, RandomStateError, ShapeError
from groundup.random import Generator

MASK = 0xFFFFFFFF


def philox4x32_10(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    """The generator as its paper writes it, in Python integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1, c2, c3]


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0,) * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((MASK,) * 4, (MASK, MASK), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_reference_gives_the_published_vectors(counter, key, words):
    """The known answers that Random123 ships."""
    assert [f"{word:08x}" for word in philox4x32_10(counter, key)] == words.split()


def state_of(*words: int) -> gu.Tensor:
    return gu.tensor(np.array(words, np.uint32).view(np.int32))


@pytest.mark.parametrize(
    "words", [(0, 0, 0, 0), (7, 0, 3, 0), (MASK,) * 4, (0xA4093822, 0x299F31D0, 1, 2)]
)
def test_bits_are_philox_of_position_and_state(words):
    size = 100_003  # more than one block of any kernel
    bits = ops.random_bits(state_of(*words), (size,)).numpy().view(np.uint32)
    for i in (0, 1, 2, 3, 4, 5, 8191, 8192, 32767, 32768, 65537, size - 1):
        wanted = philox4x32_10((i // 4, 0, words[2], words[3]), words[:2])[i % 4]
        assert int(bits[i]) == wanted, i


def test_golden_values():
    """Other backends must give these too; they may never change."""
    bits = ops.random_bits(state_of(0, 0, 0, 0), (4,)).numpy().view(np.uint32)
    assert [f"{x:08x}" for x in bits] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    generator = Generator(1234)
    uniform = random.rand(3, generator=generator).numpy() * 2**24
    assert uniform.tolist() == [2134195.0, 14318832.0, 4456848.0]
    normal = random.randn(3, generator=generator).numpy()
    np.testing.assert_allclose(normal, [-0.12337282, -1.39932115, 0.62422516], rtol=2e-6)


def test_shape_does_not_change_the_bits():
    state = state_of(9, 8, 7, 6)
    flat = ops.random_bits(state, (60,)).numpy()
    np.testing.assert_array_equal(ops.random_bits(state, (3, 4, 5)).numpy().ravel(), flat)
    np.testing.assert_array_equal(ops.random_bits(state, (7,)).numpy(), flat[:7])


def test_uniform_is_exact_from_the_bits():
    state = state_of(5, 0, 0, 0)
    bits = ops.random_bits(state, (1000,)).numpy().view(np.uint32)
    unit = (bits >> 8) * np.float64(2.0**-24)
    np.testing.assert_array_equal(ops.uniform(state, (1000,)).numpy(), unit)
    wide = ops.uniform(state, (1000,), -2.0, 3.0).numpy()
    np.testing.assert_array_equal(wide, unit.astype(np.float32) * np.float32(5) - np.float32(2))
    half = ops.uniform(state, (1000,), dtype="float16").numpy()
    np.testing.assert_array_equal(half, unit.astype(np.float16))


def test_normal_is_box_muller_of_the_bits():
    state = state_of(5, 0, 1, 0)
    bits = ops.random_bits(state, (10,)).numpy().view(np.uint32) >> 8
    radius = np.sqrt(-2 * np.log((bits[:5] + 1.0) * 2.0**-24))
    angle = 2 * np.pi * (bits[5:] * 2.0**-24 - 0.5)
    wanted = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:9]
    np.testing.assert_allclose(ops.normal(state, (9,)).numpy(), wanted, rtol=2e-6, atol=1e-6)
    scaled = ops.normal(state, (3, 3), 2.0, 0.5).numpy().ravel()
    np.testing.assert_allclose(scaled, wanted * 0.5 + 2, rtol=2e-6, atol=1e-6)


def test_distributions():
    generator, n = Generator(3), 400_000
    u = random.rand(n, generator=generator).numpy().astype(np.float64)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 5 / np.sqrt(12 * n)
    assert abs(u.var() - 1 / 12) < 1e-3
    z = random.randn(n, generator=generator).numpy().astype(np.float64)
    assert abs(z.mean()) < 5 / np.sqrt(n)
    assert abs(z.std() - 1) < 5 / np.sqrt(2 * n)
    assert abs((z**4).mean() - 3) < 5 * np.sqrt(96 / n)
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 5 / np.sqrt(n)


def test_draws_differ_and_seeds_repeat():
    one, two = Generator(7), Generator(7)
    first, second = random.rand(50, generator=one).numpy(), random.rand(50, generator=one).numpy()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(random.rand(50, generator=two).numpy(), first)
    np.testing.assert_array_equal(random.rand(50, generator=two).numpy(), second)
    assert not np.array_equal(random.rand(50, generator=Generator(8)).numpy(), first)


def test_draw_counter_carries_and_wraps():
    generator = Generator(0)
    generator.set_state(np.array([1, 2, -1, 5], np.int32))
    generator.draw()
    assert generator.get_state().tolist() == [1, 2, 0, 6]
    generator.set_state(np.array([1, 2, -1, -1], np.int32))
    generator.draw()
    assert generator.get_state().tolist() == [1, 2, 0, 0]


def test_a_drawn_state_stays_as_it_is():
    generator = Generator(4)
    drawn = generator.draw()
    before = drawn.numpy()
    random.rand(3, generator=generator)
    np.testing.assert_array_equal(drawn.numpy(), before)


def test_manual_seed_reaches_the_default_generator():
    saved = random.get_state()
    try:
        gu.manual_seed(11)
        first = random.randn(5).numpy()
        gu.manual_seed(11)
        np.testing.assert_array_equal(random.randn(5).numpy(), first)
        assert random.default_generator().seed == 11
    finally:
        random.set_state(saved)


@pytest.mark.parametrize("seed", [-1, 0, 2**32, 2**63, 2**64 - 1])
def test_any_64_bit_seed(seed):
    low, high, *draw = Generator(seed).get_state().view(np.uint32).tolist()
    assert high << 32 | low == seed % 2**64
    assert draw == [0, 0]


def test_state_can_be_kept_on_the_host():
    generator = Generator(21)
    random.rand(4, generator=generator)
    state = generator.get_state()
    wanted = random.rand(9, generator=generator).numpy()
    other = Generator(0)
    other.set_state(state)
    np.testing.assert_array_equal(random.rand(9, generator=other).numpy(), wanted)


def test_restored_replays_and_then_goes_on():
    generator = Generator(2)
    states = random.snapshot()
    first = random.rand(4, generator=generator).numpy()
    position = generator.get_state()
    with random.restored(states):
        np.testing.assert_array_equal(random.rand(4, generator=generator).numpy(), first)
        random.rand(4, generator=generator)
    np.testing.assert_array_equal(generator.get_state(), position)


def test_restored_replays_a_generator_that_is_younger():
    states = random.snapshot()
    generator = Generator(2)
    first = random.rand(4, generator=generator).numpy()
    with random.restored(states):
        np.testing.assert_array_equal(random.rand(4, generator=generator).numpy(), first)


def test_checkpoint_draws_the_same_mask():
    def run(wrap):
        x = gu.tensor(np.linspace(-1, 1, 64, dtype=np.float32), requires_grad=True)
        generator = Generator(5)

        def function(t):
            return ops.dropout(t * t, generator.draw(), 0.5)

        out = gu.checkpoint(function, x) if wrap else function(x)
        out.sum().backward()
        return out.detach().numpy(), x.grad.numpy(), generator.get_state()

    for plain, again in zip(run(False), run(True), strict=True):
        np.testing.assert_array_equal(plain, again)


def test_dropout_keeps_its_share_and_its_sum():
    x = gu.ones(200_000).requires_grad_()
    out = ops.dropout(x, Generator(1).draw(), 0.25)
    out.sum().backward()
    kept = out.detach().numpy() != 0
    assert abs(kept.mean() - 0.75) < 0.005
    np.testing.assert_array_equal(out.detach().numpy()[kept], np.float32(1 / 0.75))
    np.testing.assert_array_equal(x.grad.numpy(), out.detach().numpy())


def test_categorical_follows_softmax():
    logits = np.array([0.0, 1.0, 2.0, -np.inf], np.float32)
    n = 100_000
    rows = gu.tensor(logits).expand(n, 4)
    drawn = ops.categorical(rows, Generator(1).draw()).numpy()
    assert drawn.dtype == np.int32
    share = np.bincount(drawn, minlength=4) / n
    wanted = np.exp(logits) / np.exp(logits).sum()
    assert share[3] == 0
    assert np.abs(share - wanted).max() < 5 * np.sqrt(0.25 / n)


def test_randint_covers_its_range():
    drawn = random.randint(-3, 4, 20_000, generator=Generator(1)).numpy()
    assert drawn.dtype == np.int32
    assert set(drawn.tolist()) == set(range(-3, 4))
    assert np.bincount(drawn + 3).min() > 2500
    wide = random.randint(-(2**31), -1, (50, 2), generator=Generator(1)).numpy()
    assert wide.shape == (50, 2)
    assert wide.max() < -1


def test_randperm_and_bernoulli():
    order = random.randperm(1000, generator=Generator(1)).numpy()
    assert sorted(order.tolist()) == list(range(1000))
    assert order.tolist() != list(range(1000))
    tossed = random.bernoulli(0.3, (100, 1000), generator=Generator(1)).numpy()
    assert tossed.dtype == np.bool_
    assert abs(tossed.mean() - 0.3) < 0.01
    assert not random.bernoulli(0.0, 100).numpy().any()
    assert random.bernoulli(1.0, 100).numpy().all()


def test_bad_arguments():
    with pytest.raises(ConfigError, match="64 bits"):
        Generator(2**64)
    with pytest.raises(ConfigError, match="empty"):
        random.randint(3, 3, 4)
    with pytest.raises(DTypeError, match="integer"):
        random.randint(0, 3, 4, dtype="float32")
    with pytest.raises(DTypeError, match="floating"):
        random.rand(3, dtype="int32")
    with pytest.raises(ConfigError, match="p must lie"):
        random.bernoulli(1.5, 3)
    with pytest.raises(RandomStateError, match="int32"):
        Generator(1).set_state(np.zeros(3, np.int32))
    with pytest.raises(RandomStateError, match="int32"):
        Generator(1).set_state(np.zeros(4, np.int64))
    with pytest.raises(ShapeError, match="state must be"):
        ops.random_bits(gu.zeros(3, dtype="int32"), (2,))

from pathlib import Path

import numpy as np
import pytest

from groundup.data import Batches, open_tokens, write_tokens
from groundup.errors import ConfigError, DataError


def test_targets_are_the_inputs_one_id_later() -> None:
    x, y = Batches(np.arange(1000), batch_size=5, context=7, seed=1).batch(0)
    assert x.shape == y.shape == (5, 7)
    assert x.dtype == y.dtype == np.int32
    assert x.flags.c_contiguous
    assert y.flags.c_contiguous
    np.testing.assert_array_equal(x, x[:, :1] + np.arange(7))  # each row is a window
    np.testing.assert_array_equal(y, x + 1)


def test_the_order_is_fixed_for_ever() -> None:
    """A new value here breaks the resuming of every run that somebody has saved."""
    batches = Batches(np.arange(1000, dtype=np.uint16), batch_size=4, context=3, seed=1337)
    assert batches.batch(0)[0][:, 0].tolist() == [306, 666, 88, 365]
    assert batches.batch(7)[0][:, 0].tolist() == [460, 896, 716, 727]
    assert batches.batch(2**40)[0][:, 0].tolist() == [394, 723, 871, 928]


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    tokens = np.arange(10_000)
    forward = Batches(tokens, 8, 16, seed=3)
    straight = [forward.batch(step)[0] for step in range(10)]
    resumed = Batches(tokens, 8, 16, seed=3)
    for step in (9, 4, 4, 0):
        np.testing.assert_array_equal(resumed.batch(step)[0], straight[step])
    np.testing.assert_array_equal(resumed.batch(np.int64(4))[0], straight[4])


def test_steps_and_seeds_differ() -> None:
    tokens = np.arange(1_000_000)
    starts = {
        tuple(Batches(tokens, 4, 8, seed).batch(step)[0][:, 0])
        for seed in (0, 1, 2**64 - 1)
        for step in range(50)
    }
    assert len(starts) == 150


def test_a_larger_batch_begins_with_the_smaller_one() -> None:
    small = Batches(np.arange(500), 3, 8, seed=0).batch(5)[0]
    large = Batches(np.arange(500), 9, 8, seed=0).batch(5)[0]
    np.testing.assert_array_equal(large[:3], small)


def test_every_window_can_occur_and_they_occur_alike() -> None:
    batches = Batches(np.arange(4 + 5), batch_size=500, context=4, seed=0)
    starts = np.concatenate([batches.batch(step)[0][:, 0] for step in range(20)])
    counts = np.bincount(starts)
    assert len(counts) == 5  # offsets 0 to 4; the last target is the last token
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(2000)


def test_the_shortest_data_give_one_window() -> None:
    x, y = Batches(np.array([7, 8, 9]), batch_size=2, context=2, seed=0).batch(0)
    assert x.tolist() == [[7, 8], [7, 8]]
    assert y.tolist() == [[8, 9], [8, 9]]


def test_a_memory_map_serves_as_well(tmp_path: Path) -> None:
    tokens = np.arange(300, dtype=np.uint16) * 200
    write_tokens(tmp_path / "train.bin", tokens)
    mapped = Batches(open_tokens(tmp_path / "train.bin"), 4, 8, seed=2).batch(1)
    for ours, plain in zip(mapped, Batches(tokens, 4, 8, seed=2).batch(1), strict=True):
        assert type(ours) is np.ndarray
        np.testing.assert_array_equal(ours, plain)


def test_data_shorter_than_the_context_are_an_error_with_a_way_out() -> None:
    with pytest.raises(DataError) as caught:
        Batches(np.arange(256), 8, 256, seed=0, name="the validation split")
    assert str(caught.value) == (
        "the validation split has 256 tokens, but a context of 256 needs 257"
        " (use --block-size 255 or less, or give more data)"
    )


@pytest.mark.parametrize("length", [0, 1])
def test_hardly_any_data_have_no_way_out_but_more(length: int) -> None:
    with pytest.raises(DataError, match=rf"has {length} tokens.* \(give more data\)"):
        Batches(np.arange(length), 8, 4, seed=0)


@pytest.mark.parametrize(("batch_size", "context"), [(0, 4), (4, 0), (-1, 4)])
def test_sizes_below_one_are_refused(batch_size: int, context: int) -> None:
    with pytest.raises(ConfigError, match="must be at least 1"):
        Batches(np.arange(100), batch_size, context, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match=f"got {seed}"):
        Batches(np.arange(100), 2, 4, seed=seed)


def test_a_negative_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="step must be at least 0, got -1"):
        Batches(np.arange(100), 2, 4, seed=0).batch(-1)

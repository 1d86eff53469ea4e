"""An epoch uses every block once, an evaluation every token; a step depends only on its number and the seed."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from epigone.tokens.dataset import Batches, read_in_order
from helpers_training import random_ids


def count_up(n_ids: int) -> np.ndarray:
    """Ids that are their own places."""
    return np.arange(n_ids, dtype=np.uint16)


def starts_of_pass(batches: Batches, number: int) -> list[int]:
    """The starts of the blocks of one epoch, over all of its steps."""
    first, last = number * batches.n_blocks, (number + 1) * batches.n_blocks
    steps = range(first // batches.blocks_per_step, -(-last // batches.blocks_per_step))
    places = list(chain.from_iterable(batches.starts(step) for step in steps))
    skipped = steps[0] * batches.blocks_per_step
    return [int(place) for place in places[first - skipped : last - skipped]]


SIZES = st.fixed_dictionaries(
    {"block_size": st.integers(1, 12), "blocks_per_step": st.integers(1, 9), "seed": st.integers(0, 2**32 - 1)}
)


# -- to learn from


@settings(deadline=None)
@given(n_ids=st.integers(13, 120), sizes=SIZES, number=st.integers(0, 4))
def test_an_epoch_reads_every_block_once(n_ids: int, sizes: dict[str, int], number: int) -> None:
    """All starts have one offset and differ by whole blocks, so that none overlaps another."""
    batches = Batches(count_up(n_ids), **sizes)
    starts = starts_of_pass(batches, number)
    size = sizes["block_size"]
    read = [place % n_ids for start in starts for place in range(start, start + size)]
    assert len(starts) == n_ids // size
    assert len(set(read)) == len(read) == n_ids // size * size
    left_out = sorted(set(range(n_ids)) - set(read))
    assert len(left_out) < size, "what makes no block is less than one"


@settings(deadline=None)
@given(n_ids=st.integers(13, 120), sizes=SIZES, step=st.integers(0, 60))
def test_every_step_is_full_and_its_targets_follow_its_ids(n_ids: int, sizes: dict[str, int], step: int) -> None:
    ids, targets = Batches(count_up(n_ids), **sizes).read(step)
    assert ids.shape == targets.shape == (sizes["blocks_per_step"], sizes["block_size"])
    assert ids.dtype == targets.dtype == torch.int64
    assert torch.equal(ids[:, 1:], targets[:, :-1])
    assert torch.equal(targets, (ids + 1) % n_ids), "the stream is a ring"


@settings(deadline=None)
@given(sizes=SIZES, step=st.integers(0, 40))
def test_a_step_depends_only_on_the_seed_and_its_number(sizes: dict[str, int], step: int) -> None:
    """Not on earlier reads: a resumed run continues as if it had never stopped."""
    ids = random_ids(100)
    walked = Batches(ids, **sizes)
    for earlier in range(step):
        walked.read(earlier)
    for ours, theirs in zip(walked.read(step), Batches(ids, **sizes).read(step), strict=True):
        assert torch.equal(ours, theirs)


def test_each_epoch_has_another_order_and_another_offset() -> None:
    batches = Batches(count_up(1_003), block_size=20, blocks_per_step=5, seed=0)
    passes = [starts_of_pass(batches, number) for number in range(6)]
    offsets = [min(starts) for starts in passes]
    orders = [tuple((start - min(starts)) // 20 for start in starts) for starts in passes]
    assert len(set(orders)) == 6 and all(order != tuple(sorted(order)) for order in orders)
    assert len(set(offsets)) >= 4 and max(offsets) > 5


def test_other_seeds_read_in_another_order() -> None:
    orders = {
        tuple(starts_of_pass(Batches(count_up(400), block_size=8, blocks_per_step=4, seed=seed), 0))
        for seed in range(8)
    }
    assert len(orders) == 8


def test_over_the_epochs_every_token_is_a_target() -> None:
    """Also those at the edges of blocks, and those that the end of an epoch leaves out."""
    batches = Batches(count_up(103), block_size=10, blocks_per_step=5, seed=0)
    met = {int(target) for step in range(40) for target in batches.read(step)[1].flatten()}
    assert met == set(range(103))


def test_the_end_of_the_stream_is_followed_by_its_beginning() -> None:
    batches = Batches(count_up(24), block_size=8, blocks_per_step=3, seed=0)
    read = [torch.stack(batches.read(step)).flatten(1).T.tolist() for step in range(12)]
    assert [23, 0] in list(chain.from_iterable(read))


@pytest.mark.parametrize("n_processes", [2, 3, 6])
def test_processes_share_a_step_without_gap_or_overlap(n_processes: int) -> None:
    batches = Batches(random_ids(300), block_size=8, blocks_per_step=6, seed=3)
    whole, each = batches.read(7), 6 // n_processes
    shares = [batches.read(7, rows=slice(i * each, (i + 1) * each)) for i in range(n_processes)]
    for kind in (0, 1):
        assert torch.equal(torch.cat([share[kind] for share in shares]), whole[kind])


# -- to test on


@settings(deadline=None)
@given(
    n_ids=st.integers(2, 200),
    block_size=st.integers(1, 40),
    batch_size=st.integers(1, 7),
    n_parts=st.integers(1, 5),
)
def test_each_token_but_the_first_is_a_target_once(n_ids: int, block_size: int, batch_size: int, n_parts: int) -> None:
    pairs = [
        (int(one), int(other))
        for part in range(n_parts)
        for ids, targets in read_in_order(
            count_up(n_ids), block_size=block_size, batch_size=batch_size, part=part, n_parts=n_parts
        )
        for one, other in zip(ids.flatten(), targets.flatten(), strict=True)
    ]
    assert sorted(pairs) == [(place, place + 1) for place in range(n_ids - 1)]


@settings(deadline=None)
@given(n_ids=st.integers(2, 200), block_size=st.integers(1, 40), batch_size=st.integers(1, 7))
def test_blocks_are_consecutive_and_only_the_last_is_shorter(n_ids: int, block_size: int, batch_size: int) -> None:
    batches = list(read_in_order(count_up(n_ids), block_size=block_size, batch_size=batch_size))
    blocks = [block for ids, _ in batches for block in ids]
    assert [int(block[0]) for block in blocks] == list(range(0, n_ids - 1, block_size))
    assert all(len(block) == block_size for block in blocks[:-1])
    assert len(blocks[-1]) == (n_ids - 1) % block_size or len(blocks[-1]) == block_size
    assert all(len(ids) <= batch_size and ids.dtype == torch.int64 for ids, _ in batches)


def test_batches_are_full_and_the_rest_is_a_batch_of_its_own() -> None:
    shapes = [tuple(ids.shape) for ids, _ in read_in_order(count_up(5 * 8 + 4), block_size=8, batch_size=2)]
    assert shapes == [(2, 8), (2, 8), (1, 8), (1, 3)]


def test_parts_take_turns() -> None:
    """Of seven batches, no process gets more than one more than another."""
    counts = [
        len(list(read_in_order(count_up(6 * 8 + 3), block_size=8, batch_size=1, part=part, n_parts=3)))
        for part in range(3)
    ]
    assert sorted(counts) == [2, 2, 3]

"""Every example once, in an order that the seed decides, shared among the workers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.loader.sampler import Part, Sampler, Step


def parts_of(
    *sizes: int, kinds: tuple[int, ...] = (), weights: tuple[float, ...] = ()
) -> list[Part]:
    starts = np.cumsum([0, *sizes])
    return [
        Part(int(starts[i]), size, weights[i] if weights else 1, kinds[i] if kinds else 0)
        for i, size in enumerate(sizes)
    ]


def seen(*workers: Sampler) -> list[int]:
    return [int(i) for sampler in workers for step in sampler for i in step.indices]


def same(one: list[Step], other: list[Step]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.indices, b.indices) and a.key == b.key
        for a, b in zip(one, other, strict=True)
    )


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.integers(1, 7),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_an_evaluation_gives_every_example_once_over_all_workers(
    sizes: list[int], batch_size: int, world: int, seed: int
) -> None:
    parts = parts_of(*sizes, kinds=tuple(i % 2 for i in range(len(sizes))))
    workers = [
        Sampler(parts, batch_size, seed=seed, shuffle=False, rank=rank, world=world)
        for rank in range(world)
    ]
    assert sorted(seen(*workers)) == list(range(sum(sizes)))
    assert {len(list(worker)) for worker in workers} == {len(workers[0])}


@given(st.integers(1, 300), st.integers(1, 7), st.integers(1, 5))
def test_training_workers_have_as_many_full_batches_and_share_no_example(
    size: int, batch_size: int, world: int
) -> None:
    if size < batch_size * world:
        with pytest.raises(ValueError, match="do not fill a single batch"):
            Sampler(parts_of(size), batch_size, world=world)
        return
    workers = [Sampler(parts_of(size), batch_size, rank=r, world=world) for r in range(world)]
    drawn = seen(*workers)
    assert len(set(drawn)) == len(drawn) == size // (batch_size * world) * batch_size * world
    assert all(len(step.indices) == batch_size for worker in workers for step in worker)


@given(st.integers(1, 7), st.integers(1, 7))
def test_any_number_of_workers_trains_on_the_same_global_batches(world: int, other: int) -> None:
    def batches(count: int) -> list[list[int]]:
        workers = [
            Sampler(parts_of(100), math.ceil(8 / count), rank=r, world=count, global_batch=8)
            for r in range(count)
        ]
        steps = zip(*workers, strict=True)
        return [[int(i) for one in step for i in one.indices] for step in steps]

    assert batches(world) == batches(other)
    assert [len(batch) for batch in batches(world)] == [8] * 12


def test_one_worker_in_file_order_reads_as_the_file_is() -> None:
    assert seen(Sampler(parts_of(5, 6), 4, shuffle=False)) == list(range(11))


def test_the_order_changes_with_the_epoch_and_the_seed_and_with_nothing_else() -> None:
    one, other = Sampler(parts_of(50), 5), Sampler(parts_of(50), 5)
    first = seen(one)
    assert first == seen(one) == seen(other) != sorted(first)
    other.set_epoch(1)
    assert first != seen(other)
    assert first != seen(Sampler(parts_of(50), 5, seed=1))


def test_no_two_batches_draw_from_the_same_seed() -> None:
    keys = [
        step.key
        for rank in range(3)
        for step in Sampler(parts_of(40, 33, kinds=(0, 1)), 4, rank=rank, world=3, drop_last=False)
        if len(step.indices)
    ]
    assert len(set(keys)) == len(keys)


@given(st.integers(0, 12), st.booleans())
def test_resumed_in_the_middle_the_rest_of_the_epoch_is_that_of_an_unbroken_one(
    used: int, shuffle: bool
) -> None:
    parts = parts_of(31, 40, 22, kinds=(0, 1, 0))
    unbroken = Sampler(parts, 3, shuffle=shuffle, world=2, rank=1)
    steps = list(unbroken)
    resumed = Sampler(parts, 3, shuffle=shuffle, world=2, rank=1)
    if used:
        resumed.load_state_dict(steps[used - 1].state)
    assert same(list(resumed), steps[used:])


def test_resumed_with_another_number_of_workers_nothing_is_seen_twice_or_lost() -> None:
    parts = parts_of(31, 40, kinds=(0, 1))
    before = [Sampler(parts, 4, drop_last=False, rank=r, world=3) for r in range(3)]
    halves = [list(sampler)[:3] for sampler in before]
    drawn = [int(i) for steps in halves for step in steps for i in step.indices]
    after = [Sampler(parts, 5, drop_last=False, rank=r, world=2) for r in range(2)]
    for sampler in after:
        sampler.load_state_dict(halves[0][-1].state)
    assert sorted(drawn + seen(*after)) == list(range(71))


def test_a_state_of_other_examples_is_refused() -> None:
    state = Sampler(parts_of(50), 5).state_dict()
    with pytest.raises(ValueError, match=r"examples \[50\], but this loader has \[60\]"):
        Sampler(parts_of(60), 5).load_state_dict(state)


def test_setting_the_epoch_that_is_under_way_does_not_start_it_anew() -> None:
    sampler = Sampler(parts_of(50), 5)
    for step in list(sampler)[:4]:
        sampler.advance(step)
    sampler.set_epoch(0)
    assert len(list(sampler)) == 6
    sampler.set_epoch(1)
    assert len(list(sampler)) == 10


def test_batches_of_different_kinds_are_mixed_but_never_within_a_batch() -> None:
    sampler = Sampler(parts_of(400, 400, kinds=(0, 1)), 10)
    kinds = [set((step.indices >= 400).tolist()) for step in sampler]
    assert all(len(kind) == 1 for kind in kinds)
    changes = sum(a != b for a, b in pairwise(kinds))
    assert 20 < changes < 60  # 79 neighbours, half of them different


def test_weights_decide_each_parts_share_of_an_epoch() -> None:
    parts = parts_of(900, 100, weights=(1, 3))
    drawn = np.array(seen(Sampler(parts, 10, mix="weight")))
    big, small = drawn[drawn < 900], drawn[drawn >= 900]
    assert (len(big), len(small)) == (250, 750)
    assert len(set(big.tolist())) == 250
    counts = np.bincount(small - 900, minlength=100)
    assert counts.min() == 7
    assert counts.max() == 8
    assert set(seen(Sampler(parts, 10, mix="weight", seed=1))) != set(drawn.tolist())


def test_parts_take_turns_until_the_longest_is_through() -> None:
    drawn = seen(Sampler(parts_of(60, 20), 12, mix="round-robin"))
    assert [i < 60 for i in drawn] == [True, False] * 60
    assert sorted(drawn[::2]) == list(range(60))
    assert np.bincount(np.array(drawn[1::2]) - 60).tolist() == [3] * 20


def test_round_robin_skips_a_part_without_examples() -> None:
    drawn = seen(Sampler(parts_of(6, 0, 3), 3, mix="round-robin"))
    assert [i < 6 for i in drawn] == [True, False] * 6


def test_an_evaluation_reads_everything_once_whatever_the_mix() -> None:
    parts = parts_of(30, 10, weights=(1, 5))
    for mix in ("weight", "round-robin"):
        assert seen(Sampler(parts, 8, mix=mix, shuffle=False)) == list(range(40))


def test_five_million_examples_take_four_bytes_each() -> None:
    sampler = Sampler(parts_of(5_400_000), 32)
    step = next(iter(sampler))
    assert len(step.indices) == 32
    assert sampler._orders is not None
    assert sampler._orders[1][0].nbytes == 4 * 5_400_000


@given(st.integers(1, 300), st.integers(1, 7), st.integers(1, 3))
def test_texts_of_similar_lengths_share_a_batch_and_every_example_comes_once(
    size: int, batch_size: int, world: int
) -> None:
    lengths = np.random.default_rng(0).integers(1, 100, size)
    workers = [
        Sampler(
            parts_of(size), batch_size, lengths=lengths, drop_last=False, rank=rank, world=world
        )
        for rank in range(world)
    ]
    assert sorted(seen(*workers)) == list(range(size))
    plain = Sampler(parts_of(size), batch_size * world, drop_last=False)
    grouped = Sampler(parts_of(size), batch_size * world, lengths=lengths, drop_last=False)

    def padded(sampler: Sampler) -> int:
        return sum(int(lengths[step.indices].max()) * len(step.indices) for step in sampler)

    assert padded(grouped) <= padded(plain)

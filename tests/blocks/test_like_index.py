"""Which blocks are told of to who searches: the nearest there are, and never a private one."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libernet.blocks import like_index
from libernet.blocks.ids import BlobId, BlockId
from libernet.blocks.like_index import LIKE_LIMIT
from libernet.blocks.like_suffix import common_bits
from libernet.blocks.store import SMALL_BLOCK_BYTES, Store
from libernet.blocks.store_index import BlockClass, Entry
from tests.support.blocks import block_of, blocks_of
from tests.support.miniature import quick_folder

HELD_BYTES = 10**9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store(folder, held_bytes=HELD_BYTES) as opened:
        yield opened


def naive(known: dict[BlockId, int], target: BlockId, limit: int) -> list[tuple[BlockId, int]]:
    """Compare the target with every block there is."""

    def order(block_id: BlockId) -> tuple[int, int]:
        distance = abs(int.from_bytes(block_id) - int.from_bytes(target))
        return -common_bits(block_id, target), distance

    return [(each, known[each]) for each in sorted(known, key=order)[:limit]]


_ids = st.builds(
    lambda head, tail: BlockId(head + bytes(30 - len(head)) + tail),
    st.binary(max_size=3),
    st.binary(min_size=2, max_size=2),
)


@given(
    st.dictionaries(_ids, st.sampled_from([*BlockClass, "public", "nothing"]), max_size=30),
    _ids,
    st.integers(1, 8),
)
def test_the_best_are_found_as_by_looking_at_all(
    kinds: dict[BlockId, BlockClass | str], target: BlockId, limit: int
) -> None:
    with quick_folder() as folder, Store(folder, held_bytes=HELD_BYTES) as store:
        entries = [
            Entry(each, kind if isinstance(kind, BlockClass) else BlockClass.OWN, size, True)
            for size, (each, kind) in enumerate(kinds.items())
            if kind != "nothing"
        ]
        store._index.replace(entries)
        store.like.make_public(each for each in kinds if kinds[each] in {"public", "nothing"})
        findable = {
            entry.id: entry.size_bytes
            for entry in entries
            if kinds[entry.id] in {BlockClass.HELD, BlockClass.GUEST, "public"}
        }
        assert store.like.best(target, limit) == naive(findable, target, limit)


def test_of_many_the_hundred_most_like_are_found_and_they_come_in_order(store: Store) -> None:
    blocks = blocks_of(8, 2000)
    for number, (block_id, block) in enumerate(blocks):
        if number % 3:
            store.put(block_id, block)
        else:
            assert store.put_held(block_id, block)
    store.flush()
    findable = {block_id: 8 for number, (block_id, _) in enumerate(blocks) if number % 3 < 2}
    store.like.make_public(block_id for block_id in findable)
    for seed in range(50):
        target = BlockId(random.Random(seed).randbytes(32))
        found = store.like.best(target)
        assert found == naive(findable, target, LIKE_LIMIT)
        bits = [common_bits(block_id, target) for block_id, _ in found]
        assert bits == sorted(bits, reverse=True)
        assert len(bits) == LIKE_LIMIT


@pytest.mark.parametrize("size_bytes", [100, SMALL_BLOCK_BYTES + 1])
def test_private_and_cached_blocks_are_never_told_of(store: Store, size_bytes: int) -> None:
    (private_id, private), (cached_id, cached), (held_id, held) = blocks_of(size_bytes, 3)
    store.put(private_id, private)
    assert store.put_cached(cached_id, cached)
    assert store.put_held(held_id, held)
    store.flush()
    for target in (private_id, cached_id, held_id):
        assert store.like.best(target) == [(held_id, size_bytes)]


def test_a_block_held_for_others_that_becomes_ones_own_is_private(store: Store) -> None:
    block_id, block = block_of(100)
    assert store.put_held(block_id, block)
    store.flush()
    store.put(block_id, block)
    store.flush()
    assert store.like.best(block_id) == []


def test_what_is_public_stays_so_after_a_restart_until_it_is_made_private(folder: Path) -> None:
    (one_id, one), (other_id, other) = blocks_of(100, 2)
    with Store(folder) as store:
        store.like.make_public([one_id, other_id])
        store.put(one_id, one)
        store.put(other_id, other)
    with Store(folder) as store:
        assert {block_id for block_id, _ in store.like.best(one_id)} == {one_id, other_id}
        store.like.make_private([other_id])
        assert store.like.best(one_id) == [(one_id, 100)]
    with Store(folder) as store:
        assert store.like.best(one_id) == [(one_id, 100)]


def test_a_public_block_that_is_lost_is_not_told_of_until_it_is_back(
    folder: Path, store: Store
) -> None:
    block_id, block = block_of(100_000)
    store.like.make_public([block_id])
    store.put(block_id, block)
    store.flush()
    assert store.like.best(block_id) == [(block_id, 100_000)]
    store._index.remove(block_id)
    assert store.like.best(block_id) == []
    (folder / "blocks" / f"{block_id[0]:02x}" / str(block_id)).unlink()
    store.put(block_id, block)
    store.flush()
    assert store.like.best(block_id) == [(block_id, 100_000)]


def test_blobs_are_not_told_of(store: Store) -> None:
    blob = b"a blob"
    assert store.put_held(BlobId.of(blob), blob)
    store.flush()
    assert store.like.best(BlockId(bytes(BlobId.of(blob))[:32])) == []


def test_of_nothing_nothing_is_found(store: Store) -> None:
    assert store.like.best(BlockId(bytes(32))) == []
    assert store.like.best(BlockId(b"\xff" * 32)) == []


def test_the_ends_of_all_ids_are_found(store: Store) -> None:
    ends = [BlockId(bytes(32)), BlockId(b"\xff" * 32)]
    store._index.replace([Entry(each, BlockClass.HELD, 1, True) for each in ends])
    assert store.like.best(ends[0]) == [(ends[0], 1), (ends[1], 1)]
    assert store.like.best(ends[1]) == [(ends[1], 1), (ends[0], 1)]


def test_every_query_goes_through_an_index(store: Store) -> None:
    for query in like_index._AROUND:
        steps = store._index.ask_all(f"EXPLAIN QUERY PLAN {query}", bytes(32), 100)
        assert all(step[3].startswith("SEARCH") for step in steps), steps

"""Blocks kept for somebody who did not say who it is: a quota of their own, and the first to go."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libernet.blocks.errors import BlockCorrupt
from libernet.blocks.ids import BlockId
from libernet.blocks.store import SMALL_BLOCK_BYTES, Store
from libernet.blocks.store_index import BlockClass, Entry, StoreTotals
from tests.support.blocks import block_of, blocks_of

SIZES = pytest.mark.parametrize("size_bytes", [100, SMALL_BLOCK_BYTES + 1])
RESERVE_BYTES = 1_000_000


class Disk:
    """What the store is told of its disk; *free_bytes* may be told to depend on something."""

    f_frsize = 1
    f_blocks = 10**9

    def __init__(self) -> None:
        self.free_bytes: Callable[[], int] = lambda: 10**9

    @property
    def f_bavail(self) -> int:
        return self.free_bytes()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(os, "statvfs", lambda path: made)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    ticks = iter(range(1000, 10**6))
    with Store(
        folder,
        reserve_bytes=RESERVE_BYTES,
        held_bytes=100_000,
        guest_bytes=100_000,
        clock=lambda: next(ticks),
    ) as opened:
        yield opened


def test_their_quota_is_one_of_their_own(store: Store) -> None:
    blocks = blocks_of(40_000, 6)
    assert [store.put_guest(*block) for block in blocks[:3]] == [True, True, False]
    assert [store.put_held(*block) for block in blocks[3:]] == [True, True, False]
    store.flush()
    assert store.totals_by_class()[BlockClass.GUEST] == StoreTotals(2, 80_000)
    assert not store.put_guest(*blocks[2])
    assert store.put_guest(*blocks[0])


@SIZES
def test_whatever_is_promised_more_takes_their_place(store: Store, size_bytes: int) -> None:
    block = block_of(size_bytes)
    for put, kept_as in [
        (store.put_cached, BlockClass.CACHED),
        (store.put_guest, BlockClass.GUEST),
        (store.put_cached, BlockClass.GUEST),
        (store.put_held, BlockClass.HELD),
        (store.put_guest, BlockClass.HELD),
        (store.put, BlockClass.OWN),
        (store.put_guest, BlockClass.OWN),
    ]:
        put(*block)
        store.flush()
        totals = store.totals_by_class()
        assert [each for each in totals if totals[each].blocks] == [kept_as]
        assert store.get(block[0]) == block[1]


@SIZES
def test_the_first_that_came_go_before_any_cached_block_when_the_disk_gets_full(
    store: Store, disk: Disk, size_bytes: int
) -> None:
    cached, *guests = blocks_of(size_bytes, 4)
    assert store.put_cached(*cached)
    for guest in guests:
        assert store.put_guest(*guest)
        store.flush()
    disk.free_bytes = lambda: (
        RESERVE_BYTES - 1 + size_bytes * (sum(guest[0] not in store for guest in guests) - 1)
    )
    store.trim()
    assert [guest[0] in store for guest in guests] == [False, False, True]
    assert cached[0] in store


def test_a_full_disk_takes_neither_guests_nor_blocks_held_for_others(
    store: Store, disk: Disk
) -> None:
    disk.free_bytes = lambda: RESERVE_BYTES + 50
    assert not store.put_guest(*block_of(100))
    assert not store.put_held(*block_of(100))
    disk.free_bytes = lambda: RESERVE_BYTES + 100
    assert store.put_guest(*block_of(100))


def test_one_that_is_leased_or_pinned_stays(store: Store, disk: Disk) -> None:
    leased, pinned, other = blocks_of(30_000, 3)
    for block in (leased, pinned, other):
        assert store.put_guest(*block)
    store.flush()
    store.pin([pinned[0]], "somebody")
    disk.free_bytes = lambda: 0
    with store.lease([leased[0]]):
        store.trim()
        assert (leased[0] in store, pinned[0] in store, other[0] in store) == (True, True, False)


def test_one_that_is_pinned_just_before_it_goes_stays(
    store: Store, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    block_id, block = block_of(40_000)
    assert store.put_guest(block_id, block)
    store.flush()
    oldest_guests = store._index.oldest_guests

    def pinned_then(limit: int) -> list[Entry]:
        found = oldest_guests(limit)
        store.pin([block_id], "somebody")
        return found

    monkeypatch.setattr(store._index, "oldest_guests", pinned_then)
    disk.free_bytes = lambda: 0
    store.trim()
    assert store.get(block_id) == block


def test_a_damaged_block_is_healed_by_whoever_puts_it_again(store: Store, folder: Path) -> None:
    block_id, block = block_of(40_000)
    assert store.put_held(block_id, block)
    store.flush()
    (folder / "blocks" / f"{block_id[0]:02x}" / str(block_id)).write_bytes(b"x" * 40_000)
    assert store.put_guest(block_id, block)
    store.flush()
    assert store.get(block_id) == block
    assert store.totals_by_class()[BlockClass.HELD].blocks == 1


def test_what_was_held_and_damaged_is_held_however_it_comes_back(
    store: Store, folder: Path
) -> None:
    block_id, block = block_of(40_000)
    assert store.put_held(block_id, block)
    store.flush()
    (folder / "blocks" / f"{block_id[0]:02x}" / str(block_id)).write_bytes(b"x" * 40_000)
    with pytest.raises(BlockCorrupt):
        store.get(block_id)
    store.put(block_id, block)
    store.flush()
    with store.collecting() as collection:
        collection.sweep()
    assert store.get(block_id) == block


def test_one_that_a_peer_sent_again_goes_when_it_would_have_gone(store: Store, disk: Disk) -> None:
    guests = blocks_of(40_000, 2)
    for guest in guests:
        assert store.put_guest(*guest)
        store.flush()
    assert store.put_cached(*guests[1])
    store.flush()
    disk.free_bytes = lambda: RESERVE_BYTES - 1 + 40_000 * (guests[0][0] not in store)
    store.trim()
    assert [guest[0] in store for guest in guests] == [False, True]


@SIZES
@pytest.mark.parametrize("first", ["own", "held"])
@pytest.mark.parametrize("flushes", [False, True])
def test_what_is_held_and_ones_own_outlives_the_need_for_it_here(
    store: Store, size_bytes: int, first: str, flushes: bool
) -> None:
    block = block_of(size_bytes)
    puts = [store.put, store.put_held] if first == "own" else [store.put_held, store.put]
    for put in puts:
        put(*block)
        if flushes:
            store.flush()
    store.flush()
    with store.collecting() as collection:
        collection.sweep()
    assert store.get(block[0]) == block[1]
    assert store.like.tells(block[0])


@pytest.mark.parametrize(
    ("size_bytes", "part", "step", "calls"),
    [
        (100, "_index", "find", 1),
        (100, "_index", "find", 2),
        (40_000, "_index", "find", 1),
        (40_000, "_files", "write", 1),
    ],
)
@pytest.mark.parametrize("flushes", [False, True])
def test_what_becomes_ones_own_while_it_is_put_is_held_all_the_same(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    size_bytes: int,
    part: str,
    step: str,
    calls: int,
    flushes: bool,
) -> None:
    block = block_of(size_bytes)
    do, left = getattr(getattr(store, part), step), iter(range(calls - 1, -1, -1))

    def interrupted(*args: object) -> object:
        outcome = do(*args)
        if next(left, None) == 0:
            store.put(*block)
            if flushes:
                store.flush()
        return outcome

    monkeypatch.setattr(getattr(store, part), step, interrupted)
    assert store.put_held(*block)
    store.flush()
    assert next(left, None) is None
    assert store.totals_by_class()[BlockClass.OWN].blocks == 1
    with store.collecting() as collection:
        collection.sweep()
    assert store.get(block[0]) == block[1]


@SIZES
def test_one_that_went_is_like_one_that_never_came(
    store: Store, disk: Disk, folder: Path, size_bytes: int
) -> None:
    guest = block_of(size_bytes)
    assert store.put_guest(*guest)
    store.flush()
    assert store.like.best(guest[0]) == [(guest[0], size_bytes)]
    assert store.like.tells(guest[0])
    disk.free_bytes = lambda: 0
    store.trim()
    assert not store.like.tells(guest[0])
    assert store.totals_by_class()[BlockClass.GUEST] == StoreTotals()
    assert not list((folder / "blocks").glob("*/*"))
    disk.free_bytes = lambda: 10**9
    assert store.put_guest(*guest)
    store.flush()
    assert store.get(guest[0]) == guest[1]


def test_others_are_told_of_what_is_kept_for_them_and_public_alone(store: Store) -> None:
    own, public, cached, held, guest = blocks_of(100, 5)
    store.put(*own)
    store.put(*public)
    store.put_cached(*cached)
    store.put_held(*held)
    store.put_guest(*guest)
    absent = BlockId.of(b"absent")
    store.like.make_public([public[0], absent])
    store.flush()
    blocks = [own[0], public[0], cached[0], held[0], guest[0], absent]
    assert [store.like.tells(each) for each in blocks] == [False, True, False, True, True, False]


def test_a_store_of_version_2_is_brought_up_to_date(folder: Path) -> None:
    held, guest = blocks_of(100, 2)
    with Store(folder, held_bytes=1000, reserve_bytes=0) as store:
        assert store.put_held(*held)
    index = sqlite3.connect(folder / "index.sqlite")
    index.executescript(
        """
        DROP INDEX others_block;
        DROP INDEX guest_by_asked;
        CREATE INDEX held_block ON block (id, size) WHERE class = 3;
        DELETE FROM class_total WHERE class = 4;
        UPDATE meta SET value = 2 WHERE key = 'version';
        """
    )
    index.close()
    for _ in range(2):
        with Store(folder, guest_bytes=1000, reserve_bytes=0) as store:
            assert store.put_guest(*guest)
            store.flush()
            assert store.like.best(held[0])[0] == (held[0], 100)
            assert store.totals_by_class()[BlockClass.GUEST] == StoreTotals(1, 100)

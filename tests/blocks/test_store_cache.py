"""Cached blocks: kept while there is room, never at the cost of one's own."""

import os
import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typing_extensions import Buffer

from libernet.blocks.errors import BlockCorrupt, BlockNotFound, BlockTooLarge, StoreFull
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.blocks.store import SMALL_BLOCK_BYTES, Store
from libernet.blocks.store_cache import ASKED_STEP_SECONDS
from libernet.blocks.store_index import BlockClass, Entry, StoreTotals
from tests.support.blocks import Block, block_of, blocks_of

SMALL_BYTES, LARGE_BYTES = 4096, 100_000
BOTH_SIZES = pytest.mark.parametrize("size_bytes", [SMALL_BYTES, LARGE_BYTES])
NONE = StoreTotals(0, 0)


class Clock:
    """A clock that stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def step(self) -> None:
        """Go on until reading a block counts as asking for it anew."""
        self.seconds += ASKED_STEP_SECONDS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "store"
    yield made
    if made.exists():
        assert_sound(made)


@pytest.fixture
def open_store(folder: Path, clock: Clock) -> Callable[[int], Store]:
    """Return what makes a store for that many bytes of cached blocks."""

    def make(cache_bytes: int = 10_000_000) -> Store:
        return Store(folder, cache_bytes=cache_bytes, reserve_bytes=0, clock=clock)

    return make


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Iterator[Store]:
    with open_store() as opened:
        yield opened


def cached_files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "cached").iterdir()}


def cached_file(folder: Path, block_id: BlockId) -> Path:
    return folder / "cached" / str(block_id)


def assert_sound(folder: Path) -> None:
    """Check that rows, contents, files and the count of cached blocks agree in a closed store."""
    index = sqlite3.connect(folder / "index.sqlite")
    rows = index.execute("SELECT id, class, size, content FROM block").fetchall()
    contents = {row[0] for row in index.execute("SELECT row FROM content")}
    total = index.execute("SELECT blocks, bytes FROM class_total WHERE class = 2").fetchone()
    index.close()
    cached = [row for row in rows if row[1] == BlockClass.CACHED]
    assert total == (len(cached), sum(row[2] for row in cached))
    assert contents == {row[3] for row in rows} - {None}
    assert cached_files(folder) == {row[0].hex() for row in cached if row[3] is None}
    own_files = {path.name for path in (folder / "blocks").glob("*/*")}
    own = {row[0].hex() for row in rows if row[1] == BlockClass.OWN and row[3] is None}
    assert own_files == own


def kept(store: Store, blocks: Sequence[Block]) -> list[int]:
    """Return which of these blocks are here, right to the last byte."""
    here = [n for n, (block_id, _) in enumerate(blocks) if block_id in store]
    for n, (block_id, block) in enumerate(blocks):
        if n in here:
            assert store.get(block_id) == block
        else:
            with pytest.raises(BlockNotFound):
                store.get(block_id)
    return here


class TestCaching:
    @pytest.mark.parametrize(
        "size_bytes", [0, SMALL_BYTES, SMALL_BLOCK_BYTES, SMALL_BLOCK_BYTES + 1, MAX_BLOCK_BYTES]
    )
    def test_a_cached_block_is_readable_before_and_after_the_flush_and_after_a_restart(
        self, open_store: Callable[[], Store], size_bytes: int
    ) -> None:
        block_id, block = block_of(size_bytes)
        with open_store() as store:
            assert store.put_cached(block_id, bytearray(block))
            assert (store.size(block_id), store.get(block_id)) == (size_bytes, block)
            store.flush()
            assert store.put_cached(block_id, block)
            assert (store.size(block_id), store.get(block_id)) == (size_bytes, block)
        with open_store() as store:
            assert (store.size(block_id), store.get(block_id)) == (size_bytes, block)
            assert store.cached_totals() == StoreTotals(1, size_bytes)

    def test_classes_are_counted_apart(self, store: Store) -> None:
        for n, size_bytes in enumerate((SMALL_BYTES, LARGE_BYTES)):
            store.put(*block_of(size_bytes, 0))
            for seed in range(1, n + 2):
                store.put_cached(*block_of(size_bytes, seed))
        store.flush()
        assert store.totals() == StoreTotals(5, 2 * SMALL_BYTES + 3 * LARGE_BYTES)
        assert store.totals_by_class() == {
            BlockClass.OWN: StoreTotals(2, SMALL_BYTES + LARGE_BYTES),
            BlockClass.CACHED: StoreTotals(3, SMALL_BYTES + 2 * LARGE_BYTES),
            BlockClass.HELD: NONE,
            BlockClass.GUEST: NONE,
        }
        assert store.cached_totals() == StoreTotals(3, SMALL_BYTES + 2 * LARGE_BYTES)

    def test_small_blocks_wait_for_a_flush(self, store: Store) -> None:
        blocks = blocks_of(SMALL_BYTES, 600)
        for block in blocks:
            store.put_cached(*block)
        assert (store.queued_blocks, store.queued_bytes) == (600, 600 * SMALL_BYTES)
        store.flush()
        assert (store.queued_blocks, store.queued_bytes) == (0, 0)
        assert store.cached_totals().blocks == 600

    def test_not_too_many_wait_for_a_flush_that_never_comes(
        self, open_store: Callable[[int], Store]
    ) -> None:
        with open_store(10**9) as store:
            for block in blocks_of(SMALL_BLOCK_BYTES, 1100):
                store.put_cached(*block)
            for block in blocks_of(SMALL_BLOCK_BYTES + 1, 300):
                store.put_cached(*block)
            assert store.queued_blocks < 300
            assert store.queued_bytes < 1100 * SMALL_BLOCK_BYTES

    def test_a_block_over_the_limit_is_refused(self, store: Store) -> None:
        with pytest.raises(BlockTooLarge):
            store.put_cached(*block_of(MAX_BLOCK_BYTES + 1))

    @BOTH_SIZES
    @pytest.mark.parametrize("damage", [lambda block: block[:-1], lambda block: bytes(len(block))])
    def test_a_torn_block_is_not_here_and_can_be_cached_again(
        self,
        folder: Path,
        open_store: Callable[[], Store],
        size_bytes: int,
        damage: Callable[[bytes], bytes],
    ) -> None:
        block_id, block = block_of(size_bytes)
        with open_store() as store:
            store.put_cached(block_id, block)
        if size_bytes == LARGE_BYTES:
            cached_file(folder, block_id).write_bytes(damage(block))
        else:
            with sqlite3.connect(folder / "index.sqlite") as connection:
                connection.execute("UPDATE content SET bytes = ?", [damage(block)])
            connection.close()
        with open_store() as store:
            with pytest.raises(BlockNotFound):
                store.get(block_id)
            assert block_id not in store
            assert store.cached_totals() == NONE
            assert store.put_cached(block_id, block)
            assert store.get(block_id) == block
        assert list((folder / "corrupt").iterdir()) == []

    def test_a_block_whose_file_is_gone_is_not_here_and_can_be_cached_again(
        self, folder: Path, store: Store
    ) -> None:
        block_id, block = block_of(LARGE_BYTES)
        store.put_cached(block_id, block)
        store.flush()
        cached_file(folder, block_id).unlink()
        assert store.put_cached(block_id, block)
        cached_file(folder, block_id).unlink()
        with pytest.raises(BlockNotFound):
            store.get(block_id)
        assert store.put_cached(block_id, block)
        assert store.get(block_id) == block

    def test_a_discarded_block_is_gone_for_good(
        self, open_store: Callable[[], Store], folder: Path
    ) -> None:
        blocks = [block_of(SMALL_BYTES), block_of(LARGE_BYTES)]
        with open_store() as store:
            for block in blocks:
                store.put_cached(*block)
                assert store.discard(block[0])
                assert not store.discard(block[0])
            assert cached_files(folder) == set()
        with open_store() as store:
            assert kept(store, blocks) == []

    def test_own_and_leased_blocks_are_not_discarded(self, store: Store) -> None:
        own, leased = blocks_of(LARGE_BYTES, 2)
        store.put(*own)
        store.put_cached(*leased)
        assert not store.discard(own[0])
        with store.lease([leased[0]]):
            assert not store.discard(leased[0])
        assert kept(store, [own, leased]) == [0, 1]

    def test_files_that_a_crash_left_without_a_row_are_removed_and_no_others(
        self, folder: Path, open_store: Callable[[], Store]
    ) -> None:
        cached, own, left_over = blocks_of(LARGE_BYTES, 3)
        with open_store() as store:
            store.put_cached(*cached)
            store.put(*own)
        for block_id, block in (own, left_over):
            cached_file(folder, block_id).write_bytes(block)
        (folder / "index.sqlite-wal").touch()
        with open_store() as store:
            assert cached_files(folder) == {str(cached[0])}
            assert kept(store, [cached, own, left_over]) == [0, 1]


class TestOwnAndCached:
    @BOTH_SIZES
    @pytest.mark.parametrize("flushed", [False, True])
    def test_a_cached_put_of_an_own_block_changes_nothing(
        self, store: Store, folder: Path, size_bytes: int, flushed: bool
    ) -> None:
        block_id, block = block_of(size_bytes)
        store.put(block_id, block)
        if flushed:
            store.flush()
        assert store.put_cached(block_id, block)
        store.flush()
        assert store.totals_by_class()[BlockClass.OWN] == StoreTotals(1, size_bytes)
        assert cached_files(folder) == set()

    @BOTH_SIZES
    @pytest.mark.parametrize("flushed", [False, True])
    def test_putting_a_cached_block_makes_it_ones_own(
        self, store: Store, folder: Path, size_bytes: int, flushed: bool
    ) -> None:
        block_id, block = block_of(size_bytes)
        store.put_cached(block_id, block)
        if flushed:
            store.flush()
        store.put(block_id, block)
        assert store.get(block_id) == block
        store.flush()
        assert store.get(block_id) == block
        assert store.totals_by_class() == {
            BlockClass.OWN: StoreTotals(1, size_bytes),
            BlockClass.CACHED: NONE,
            BlockClass.HELD: NONE,
            BlockClass.GUEST: NONE,
        }
        assert (store.queued_bytes, cached_files(folder)) == (0, set())

    def test_a_torn_cached_block_is_whole_once_it_is_ones_own(
        self, store: Store, folder: Path
    ) -> None:
        block_id, block = block_of(LARGE_BYTES)
        store.put_cached(block_id, block)
        store.flush()
        cached_file(folder, block_id).write_bytes(bytes(LARGE_BYTES))
        store.put(block_id, block)
        assert store.get(block_id) == block

    @BOTH_SIZES
    def test_it_becomes_ones_own_also_while_the_cached_one_is_committed(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, size_bytes: int
    ) -> None:
        block_id, block = block_of(size_bytes)
        replace = store._index.replace

        def replace_late(entries: list[Entry]) -> None:
            monkeypatch.undo()
            store.put(block_id, block)
            replace(entries)

        store.put_cached(block_id, block)
        monkeypatch.setattr(store._index, "replace", replace_late)
        store.flush()
        assert store.get(block_id) == block
        store.flush()
        assert store.totals_by_class()[BlockClass.OWN] == StoreTotals(1, size_bytes)

    def test_a_block_stored_as_ones_own_meanwhile_is_not_taken_back(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        block_id, block = block_of(LARGE_BYTES)
        write = store._files.write

        def write_late(block_id: BlockId, block: Buffer, *, durable: bool = True) -> str:
            monkeypatch.undo()
            store.put(block_id, block)
            store.flush()
            return write(block_id, block, durable=durable)

        monkeypatch.setattr(store._files, "write", write_late)
        assert store.put_cached(block_id, block)
        assert store.get(block_id) == block
        store.flush()
        assert store.get(block_id) == block
        assert store.totals_by_class()[BlockClass.OWN] == StoreTotals(1, LARGE_BYTES)

    @pytest.mark.announces("is damaged")
    def test_an_own_block_found_damaged_and_fetched_again_is_ones_own(
        self, store: Store, folder: Path
    ) -> None:
        block_id, block = block_of(LARGE_BYTES)
        store.put(block_id, block)
        store.flush()
        (folder / "blocks" / f"{block_id[0]:02x}" / str(block_id)).write_bytes(b"rot")
        with pytest.raises(BlockCorrupt):
            store.get(block_id)
        assert store.put_cached(block_id, block)
        store.flush()
        assert store.get(block_id) == block
        assert store.totals_by_class()[BlockClass.OWN] == StoreTotals(1, LARGE_BYTES)


class TestQuota:
    @BOTH_SIZES
    def test_what_was_asked_for_least_recently_goes_and_the_quota_is_kept(
        self, open_store: Callable[[int], Store], clock: Clock, size_bytes: int
    ) -> None:
        blocks = blocks_of(size_bytes, 30)
        with open_store(20 * size_bytes) as store:
            for block in blocks:
                clock.step()
                assert store.put_cached(*block)
                store.flush()
                assert store.cached_totals().bytes <= 20 * size_bytes
            here = kept(store, blocks)
            assert here == list(range(here[0], 30))
            assert len(here) >= 18

    def test_reading_counts_as_asking_also_after_a_restart(
        self, open_store: Callable[[int], Store], clock: Clock
    ) -> None:
        blocks = blocks_of(LARGE_BYTES, 6)
        with open_store(10 * LARGE_BYTES) as store:
            for block in blocks[:4]:
                store.put_cached(*block)
            store.flush()
            clock.step()
            store.get(blocks[0][0])
        with open_store(4 * LARGE_BYTES) as store:
            clock.step()
            store.get(blocks[1][0])
            for block in blocks[4:]:
                assert store.put_cached(*block)
            assert kept(store, blocks) == [0, 1, 4, 5]

    def test_more_goes_at_a_time_than_one_block_needs(
        self, open_store: Callable[[int], Store]
    ) -> None:
        blocks = blocks_of(SMALL_BYTES, 41)
        with open_store(40 * SMALL_BYTES) as store:
            for block in blocks[:40]:
                store.put_cached(*block)
            store.flush()
            store.put_cached(*blocks[40])
            store.flush()
            assert store.cached_totals().blocks == 36

    def test_what_waits_is_given_up_when_nothing_else_can_go(
        self, open_store: Callable[[int], Store]
    ) -> None:
        leased, other = blocks_of(SMALL_BYTES, 2)
        with open_store(SMALL_BYTES) as store, store.lease([leased[0]]):
            store.put_cached(*leased)
            store.flush()
            store.put_cached(*other)
            store.flush()
            assert kept(store, [leased, other]) == [0]

    @BOTH_SIZES
    def test_own_blocks_neither_count_nor_go(
        self, open_store: Callable[[int], Store], clock: Clock, size_bytes: int
    ) -> None:
        blocks = blocks_of(size_bytes, 40)
        with open_store(5 * size_bytes) as store:
            for block in blocks[:10]:
                store.put(*block)
            for block in blocks[10:20]:
                clock.step()
                assert store.put_cached(*block)
                store.put(*block)
            for block in blocks[20:]:
                clock.step()
                assert store.put_cached(*block)
            store.flush()
            assert kept(store, blocks)[:20] == list(range(20))
            assert store.totals_by_class()[BlockClass.OWN].blocks == 20

    def test_leased_blocks_stay_until_the_last_lease_ends(
        self, open_store: Callable[[int], Store], clock: Clock
    ) -> None:
        first, second, *others = blocks_of(LARGE_BYTES, 10)
        with open_store(2 * LARGE_BYTES) as store:
            with store.lease([first[0], second[0]]):
                with store.lease([first[0]]):
                    for block in (first, second):
                        clock.step()
                        assert store.put_cached(*block)
                    assert not store.put_cached(*others[0])
                assert not store.put_cached(*others[1])
                assert kept(store, [first, second, *others]) == [0, 1]
            assert store.put_cached(*others[2])
            assert len(kept(store, [first, second])) < 2

    def test_a_block_on_its_way_out_is_gone_before_it_could_be_leased(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        block_id, block = block_of(LARGE_BYTES)
        forget_cached = store._index.forget_cached

        def forget_cached_late(gone: list[BlockId], asked: Mapping[BlockId, int]) -> None:
            with store.lease([block_id]):
                assert block_id not in store
                with pytest.raises(BlockNotFound):
                    store.get(block_id)
                assert store.put_cached(block_id, block)
                forget_cached(gone, asked)

        store.put_cached(block_id, block)
        store.flush()
        monkeypatch.setattr(store._index, "forget_cached", forget_cached_late)
        assert store.discard(block_id)
        assert store.get(block_id) == block

    def test_a_block_larger_than_the_quota_drives_nothing_out(
        self, open_store: Callable[[int], Store]
    ) -> None:
        small, large = block_of(SMALL_BYTES), block_of(LARGE_BYTES)
        with open_store(LARGE_BYTES - 1) as store:
            assert store.put_cached(*small)
            assert not store.put_cached(*large)
            assert kept(store, [small, large]) == [0]

    def test_a_cache_without_room_keeps_nothing(self, open_store: Callable[[int], Store]) -> None:
        with open_store(0) as store:
            assert not store.put_cached(*block_of(SMALL_BYTES))
            store.trim()
            assert store.totals() == NONE

    @BOTH_SIZES
    def test_a_lower_quota_is_reached_by_trimming(
        self, open_store: Callable[[int], Store], clock: Clock, size_bytes: int
    ) -> None:
        blocks = blocks_of(size_bytes, 20)
        with open_store(20 * size_bytes) as store:
            for block in blocks:
                clock.step()
                store.put_cached(*block)
        with open_store(5 * size_bytes) as store:
            clock.step()
            store.get(blocks[0][0])
            store.trim()
            here = kept(store, blocks)
            assert here == [0, *range(21 - len(here), 20)]
            assert 1 < len(here) <= 5

    def test_many_threads_at_once_harm_nothing(self, open_store: Callable[[int], Store]) -> None:
        blocks = [block_of(random.Random(n).choice((100, 5000, 40_000)), n) for n in range(200)]
        own = dict(blocks[::10])
        own_from_the_start = dict(blocks[::20])
        with open_store(1_000_000) as store:

            def work(seed: int) -> None:
                order = random.Random(seed)
                for block_id, block in order.choices(blocks, k=400):
                    if block_id in own and order.random() < 0.3:
                        store.put(block_id, block)
                        store.flush()
                        assert store.get(block_id) == block
                    store.put_cached(block_id, block)
                    try:
                        assert store.get(block_id) == block
                    except BlockNotFound:
                        assert block_id not in own_from_the_start
                    if order.random() < 0.05:
                        store.trim()
                        store.discard(block_id)

            for own_block in own_from_the_start.items():
                store.put(*own_block)
            with ThreadPoolExecutor(4) as threads:
                list(threads.map(work, range(4)))
            store.flush()
            assert store.cached_totals().bytes <= 1_000_000
            for block_id, block in own_from_the_start.items():
                assert store.get(block_id) == block


@pytest.mark.parametrize("small_disk", ["96m"], indirect=True)
@pytest.mark.parametrize("size_bytes", [20_000, 200_000], ids=["small", "large"])
class TestReserve:
    """On a disk of 96 MiB, of which 24 MiB are to stay free; the index's log takes up to 16."""

    def test_caching_leaves_it_free_and_is_refused_quietly(
        self, small_disk: Path, size_bytes: int
    ) -> None:
        with Store(small_disk / "store") as store:
            for n, block in enumerate(blocks_of(size_bytes, 100_000_000 // size_bytes)):
                store.put_cached(*block)
                if n % 100 == 0:
                    store.flush()
            store.flush()
            assert store.cached_totals().bytes > 20_000_000
            assert free_bytes(small_disk) > 10_000_000
        assert_sound(small_disk / "store")

    def test_cached_blocks_make_room_for_ones_own(self, small_disk: Path, size_bytes: int) -> None:
        own = blocks_of(size_bytes, 50_000_000 // size_bytes)
        with Store(small_disk / "store") as store:
            for seed in range(40_000_000 // size_bytes):
                store.put_cached(*block_of(size_bytes, -1 - seed))
            store.flush()
            before = store.cached_totals().bytes
            for n, block in enumerate(own):
                store.put(*block)
                if n % 20 == 0:
                    store.flush()
            store.flush()
            assert store.cached_totals().bytes < before - 10_000_000
            assert len(kept(store, own)) == len(own)
        assert_sound(small_disk / "store")

    def test_cached_blocks_make_room_for_what_others_write(
        self, small_disk: Path, size_bytes: int
    ) -> None:
        with Store(small_disk / "store") as store:
            for block in blocks_of(size_bytes, 40_000_000 // size_bytes):
                store.put_cached(*block)
            store.flush()
            before = store.cached_totals().bytes
            taken = free_bytes(small_disk) - 10_000_000
            (small_disk / "others").write_bytes(bytes(taken))
            store.trim()
            assert 0 < store.cached_totals().bytes < before - 10_000_000
            assert free_bytes(small_disk) > 20_000_000
        assert_sound(small_disk / "store")


def free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


class TestFullDisk:
    def test_cached_blocks_do_not_keep_ones_own_from_becoming_durable(
        self, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replace = store._index.replace

        def replace_little(entries: list[Entry]) -> None:
            if len(entries) > 1:
                raise StoreFull("no space is left")
            replace(entries)

        own, *cached = blocks_of(LARGE_BYTES, 4)
        store.put(*own)
        for block in cached:
            store.put_cached(*block)
        monkeypatch.setattr(store._index, "replace", replace_little)
        store.flush()
        assert store.totals_by_class()[BlockClass.OWN].blocks == 1
        assert kept(store, [own, *cached]) == [0]
        assert cached_files(folder) == set()

    def test_a_disk_without_any_space_harms_only_the_cache(self, small_disk: Path) -> None:
        others = small_disk / "others"
        own, cached = block_of(LARGE_BYTES), blocks_of(SMALL_BYTES, 50)
        with Store(small_disk / "store", reserve_bytes=0) as store:
            store.put(*own)
            store.flush()
            for block in cached:
                assert store.put_cached(*block)
            with pytest.raises(OSError, match="No space"):
                others.write_bytes(bytes(9_000_000))
            assert not store.put_cached(*block_of(LARGE_BYTES, 1))
            assert store.get(own[0]) == own[1]
        others.unlink()
        with Store(small_disk / "store") as store:
            assert store.get(own[0]) == own[1]
            kept(store, cached)
        assert_sound(small_disk / "store")

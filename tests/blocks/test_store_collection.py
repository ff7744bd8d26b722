"""What nothing needs any more goes, and nothing else: marks, puts, leases, pins, crashes."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from libernet.blocks.errors import BlockNotFound, StoreError
from libernet.blocks.ids import BlobId, StoredId
from libernet.blocks.store import SMALL_BLOCK_BYTES, Store
from libernet.blocks.store_collection import Collected
from libernet.blocks.store_index import BlockClass
from tests.support.blocks import block_of, blocks_of

SIZES = pytest.mark.parametrize("size_bytes", [100, SMALL_BLOCK_BYTES + 1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store(folder, held_bytes=1_000_000, reserve_bytes=0) as opened:
        yield opened


def put(store: Store, *blocks: tuple[StoredId, bytes]) -> None:
    for block_id, block in blocks:
        store.put(block_id, block)
    store.flush()


def collected(store: Store, *needed: StoredId, dry_run: bool = False) -> Collected:
    with store.collecting() as collection:
        collection.keep(needed)
        return collection.sweep(dry_run=dry_run)


@SIZES
def test_what_is_not_marked_goes_and_its_room_with_it(
    store: Store, folder: Path, size_bytes: int
) -> None:
    blocks = blocks_of(size_bytes, 600)
    put(store, *blocks)
    kept = blocks[::3]
    gone = collected(store, *(block_id for block_id, _ in kept))
    assert gone == Collected(400, 400 * size_bytes)
    assert [block_id for block_id, _ in blocks if block_id in store] == [each[0] for each in kept]
    for block_id, block in kept:
        assert store.get(block_id) == block
    assert len(list((folder / "blocks").glob("*/*"))) == (200 if size_bytes > 100 else 0)
    assert not (folder / "collecting.sqlite").exists()


def test_a_dry_run_counts_and_keeps(store: Store) -> None:
    blocks = blocks_of(100, 10)
    put(store, *blocks)
    assert collected(store, dry_run=True) == Collected(10, 1000)
    assert all(block_id in store for block_id, _ in blocks)


@SIZES
def test_what_is_put_since_the_beginning_stays_also_if_it_was_here(
    store: Store, size_bytes: int
) -> None:
    old, new, unneeded = blocks_of(size_bytes, 3)
    put(store, old, unneeded)
    with store.collecting() as collection:
        put(store, old, new)
        assert collection.sweep().blocks == 1
    assert store.get(old[0]) == old[1]
    assert store.get(new[0]) == new[1]
    assert unneeded[0] not in store


def test_what_waits_for_a_commit_is_leased_or_pinned_stays(store: Store) -> None:
    leased, pinned, unneeded = blocks_of(40_000, 3)
    put(store, leased, pinned, unneeded)
    store.pin([pinned[0]], "somebody")
    with store.lease([leased[0]]):
        assert collected(store).blocks == 1
    assert (leased[0] in store, pinned[0] in store, unneeded[0] in store) == (True, True, False)
    assert collected(store).blocks == 1
    store.unpin("somebody")
    assert collected(store).blocks == 1
    assert pinned[0] not in store


def test_only_ones_own_is_collected(store: Store) -> None:
    cached, held = block_of(100, 1), block_of(40_000, 2)
    assert store.put_cached(*cached)
    assert store.put_held(*held)
    store.flush()
    assert collected(store).blocks == 0
    assert store.get(cached[0]) == cached[1]
    assert store.get(held[0]) == held[1]


def test_files_without_rows_go_and_what_is_no_block_stays(store: Store, folder: Path) -> None:
    needed, stray = blocks_of(40_000, 2)
    put(store, needed)
    place = folder / "blocks" / f"{stray[0][0]:02x}"
    (place / str(stray[0])).write_bytes(stray[1])
    (place / "notes.txt").write_text("mine")
    assert collected(store, needed[0]) == Collected(0, 0, 1)
    assert {path.name for path in place.iterdir()} - {str(needed[0])} == {"notes.txt"}


@SIZES
def test_a_block_that_was_collected_can_be_put_again(store: Store, size_bytes: int) -> None:
    block_id, block = block_of(size_bytes)
    put(store, (block_id, block))
    assert collected(store).blocks == 1
    with pytest.raises(BlockNotFound):
        store.get(block_id)
    put(store, (block_id, block))
    assert store.get(block_id) == block


def test_there_is_one_collection_at_a_time_and_another_after_it(store: Store) -> None:
    with store.collecting(), pytest.raises(StoreError, match="already"), store.collecting():
        pass
    assert collected(store) == Collected()


def test_what_a_killed_collection_left_is_no_obstacle(store: Store, folder: Path) -> None:
    (folder / "collecting.sqlite").write_bytes(b"half of a database")
    put(store, block_of(100))
    assert collected(store).blocks == 1


def test_each_document_is_walked_once(store: Store) -> None:
    first, second = (block_id for block_id, _ in blocks_of(10, 2))
    with store.collecting() as collection:
        collection.keep([second])  # as a chunk: what it names as a document is still unknown
        assert [collection.enter(each) for each in (first, second, first, second)] == [
            True,
            True,
            False,
            False,
        ]


def test_blobs_are_collected_like_blocks(store: Store) -> None:
    kept, gone = b"k" * 100_000, b"g" * 100_000
    put(store, (BlobId.of(kept), kept), (BlobId.of(gone), gone))
    assert collected(store, BlobId.of(kept)).blocks == 1
    assert store.get(BlobId.of(kept)) == kept


class TestHeld:
    def test_blocks_of_others_are_durable_and_counted_apart(self, folder: Path) -> None:
        blocks = [block_of(100), block_of(40_000)]
        with Store(folder, held_bytes=50_000) as store:
            assert all(store.put_held(*block) for block in blocks)
        with Store(folder) as store:
            assert store.totals_by_class()[BlockClass.HELD].bytes == 40_100
            assert [store.get(block_id) for block_id, _ in blocks] == [each[1] for each in blocks]

    def test_their_quota_is_kept(self, folder: Path) -> None:
        with Store(folder, held_bytes=100_000) as store:
            kept = [store.put_held(*block) for block in blocks_of(40_000, 4)]
            assert kept == [True, True, False, False]
            store.flush()
            assert not store.put_held(*block_of(40_000, 9))

    def test_one_becomes_ones_own_and_never_again_anothers(self, store: Store) -> None:
        for size_bytes in (100, 40_000):
            block = block_of(size_bytes)
            assert store.put_held(*block)
            store.flush()
            put(store, block)
            assert store.put_held(*block)
            store.flush()
            assert store.totals_by_class()[BlockClass.HELD].blocks == 0
            assert store.get(block[0]) == block[1]

    def test_a_cached_block_becomes_a_held_one(self, store: Store) -> None:
        block = block_of(40_000)
        assert store.put_cached(*block)
        store.flush()
        assert store.put_held(*block)
        store.flush()
        assert not store.discard(block[0])
        assert store.get(block[0]) == block[1]


class TestPins:
    def test_a_pinned_block_is_not_evicted(self, folder: Path) -> None:
        blocks = blocks_of(40_000, 10)
        with Store(folder, cache_bytes=100_000, reserve_bytes=0) as store:
            store.pin([blocks[0][0]], "a")
            store.pin([blocks[0][0]], "b")
            for block in blocks:
                store.put_cached(*block)
                store.flush()
            assert blocks[0][0] in store
            assert not store.discard(blocks[0][0])
            store.unpin("a")
            assert store.is_pinned(blocks[0][0])

    def test_pins_outlive_the_process(self, folder: Path) -> None:
        block = block_of(100)
        with Store(folder) as store:
            store.pin([block[0]], "a")
        with Store(folder) as store:
            assert store.is_pinned(block[0])
            store.unpin("a")
            assert not store.is_pinned(block[0])


_VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE block (
    id BLOB PRIMARY KEY,
    class INTEGER NOT NULL,
    size INTEGER NOT NULL,
    content INTEGER,
    asked INTEGER
) WITHOUT ROWID;
CREATE INDEX cached_by_asked ON block (asked) WHERE class = 2;
CREATE TABLE content (row INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TRIGGER content_goes_too AFTER DELETE ON block WHEN old.content IS NOT NULL BEGIN
    DELETE FROM content WHERE row = old.content;
END;
CREATE TABLE cached_total (blocks INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO cached_total VALUES (0, 0);
CREATE TRIGGER cached_block_comes AFTER INSERT ON block WHEN new.class = 2 BEGIN
    UPDATE cached_total SET blocks = blocks + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER cached_block_goes AFTER DELETE ON block WHEN old.class = 2 BEGIN
    UPDATE cached_total SET blocks = blocks - 1, bytes = bytes - old.size;
END;
INSERT INTO meta VALUES ('version', 1);
"""


def test_a_store_of_version_1_is_brought_up_to_date(folder: Path) -> None:
    own, cached, later = blocks_of(100, 3)
    folder.mkdir()
    index = sqlite3.connect(folder / "index.sqlite")
    index.executescript(_VERSION_1)
    for row, (block_id, block), block_class in ((1, own, 1), (2, cached, 2)):
        index.execute("INSERT INTO content VALUES (?, ?)", (row, block))
        fields = (bytes(block_id), block_class, len(block), row, 5 if block_class == 2 else None)
        index.execute("INSERT INTO block VALUES (?, ?, ?, ?, ?)", fields)
    index.commit()
    index.close()
    for _ in range(2):
        with Store(folder, reserve_bytes=0) as store:
            assert store.get(own[0]) == own[1]
            assert store.get(cached[0]) == cached[1]
            assert store.totals_by_class()[BlockClass.CACHED].blocks == 1
    with Store(folder, reserve_bytes=0) as store:
        assert store.discard(cached[0])
        assert store.put_cached(*later)
        store.flush()
        assert store.cached_totals().blocks == 1

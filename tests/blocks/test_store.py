"""The store through its own methods: what is put is kept, and nothing wrong is served."""

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from libernet.blocks.errors import (
    BlockNotFound,
    BlockTooLarge,
    StoreError,
    StoreVersion,
)
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.blocks.store import SMALL_BLOCK_BYTES, Store
from libernet.blocks.store_index import StoreTotals

SIZES = [0, 1, 4096, SMALL_BLOCK_BYTES, SMALL_BLOCK_BYTES + 1, 1024 * 1024, MAX_BLOCK_BYTES]


def block_of(size_bytes: int, seed: int = 0) -> tuple[BlockId, bytes]:
    block = random.Random(f"{size_bytes} {seed}").randbytes(size_bytes)
    return BlockId.of(block), block


SMALL_ID, SMALL = block_of(4096)
LARGE_ID, LARGE = block_of(100_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store(folder) as opened:
        yield opened


def file_of(folder: Path, block_id: BlockId) -> Path:
    return folder / "blocks" / f"{block_id[0]:02x}" / str(block_id)


def keep(folder: Path, *blocks: tuple[BlockId, bytes]) -> None:
    with Store(folder) as store:
        for block_id, block in blocks:
            store.put(block_id, block)


def change_stored_bytes(folder: Path, statement: str, *parameters: object) -> None:
    connection = sqlite3.connect(folder / "index.sqlite")
    with connection:
        assert connection.execute(statement, parameters).rowcount == 1
    connection.close()


class TestPuttingAndGetting:
    @pytest.mark.parametrize("size_bytes", SIZES)
    def test_a_block_is_readable_before_and_after_the_flush_and_after_a_restart(
        self, folder: Path, size_bytes: int
    ) -> None:
        block_id, block = block_of(size_bytes)
        with Store(folder) as store:
            store.put(block_id, block)
            assert (block_id in store, store.get(block_id)) == (True, block)
            store.flush()
            assert (block_id in store, store.get(block_id)) == (True, block)
        with Store(folder) as store:
            assert (block_id in store, store.get(block_id)) == (True, block)

    @pytest.mark.parametrize("make", [bytearray, memoryview])
    def test_any_buffer_can_be_put_and_be_reused_at_once(
        self, store: Store, make: Callable[[bytearray], bytearray | memoryview]
    ) -> None:
        for block_id, block in ((SMALL_ID, SMALL), (LARGE_ID, LARGE)):
            buffer = bytearray(block)
            store.put(block_id, make(buffer))
            buffer[:] = bytes(len(buffer))
            assert store.get(block_id) == block

    def test_a_block_that_was_never_put_is_not_found(self, store: Store) -> None:
        assert SMALL_ID not in store
        assert store.size(SMALL_ID) is None
        assert not store.is_small(SMALL_ID)
        with pytest.raises(BlockNotFound, match=str(SMALL_ID)):
            store.get(SMALL_ID)

    def test_a_block_over_the_limit_is_refused(self, store: Store) -> None:
        block_id, block = block_of(MAX_BLOCK_BYTES + 1)
        with pytest.raises(BlockTooLarge, match=str(MAX_BLOCK_BYTES)):
            store.put(block_id, block)
        assert block_id not in store

    @pytest.mark.parametrize("flushed", [False, True])
    def test_sizes_are_known_without_reading(self, store: Store, flushed: bool) -> None:
        store.put(SMALL_ID, SMALL)
        store.put(LARGE_ID, LARGE)
        if flushed:
            store.flush()
        assert (store.size(SMALL_ID), store.is_small(SMALL_ID)) == (4096, True)
        assert (store.size(LARGE_ID), store.is_small(LARGE_ID)) == (100_000, False)

    def test_queued_bytes_are_those_of_small_blocks_that_wait_for_a_flush(
        self, store: Store
    ) -> None:
        for _ in range(2):
            store.put(SMALL_ID, SMALL)
            store.put(LARGE_ID, LARGE)
        assert store.queued_bytes == 4096
        store.flush()
        assert store.queued_bytes == 0

    def test_totals_count_each_durable_block_once(self, store: Store) -> None:
        assert store.totals() == StoreTotals(blocks=0, bytes=0)
        for _ in range(2):
            store.put(SMALL_ID, SMALL)
            store.put(LARGE_ID, LARGE)
            store.flush()
        assert store.totals() == StoreTotals(blocks=2, bytes=104_096)

    def test_a_large_block_that_is_here_is_not_written_again(
        self, folder: Path, store: Store
    ) -> None:
        store.put(LARGE_ID, LARGE)
        inode = file_of(folder, LARGE_ID).stat().st_ino
        store.put(LARGE_ID, LARGE)
        store.flush()
        store.put(LARGE_ID, LARGE)
        assert file_of(folder, LARGE_ID).stat().st_ino == inode

    def test_space_of_forgotten_blocks_can_be_given_back(self, folder: Path) -> None:
        keep(folder)
        connection = sqlite3.connect(folder / "index.sqlite")
        incremental = 2
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (incremental,)
        connection.close()

    def test_a_store_that_is_not_open_says_so(self, folder: Path) -> None:
        store = Store(folder)
        assert not folder.exists()
        with pytest.raises(StoreError, match="not open"):
            store.get(SMALL_ID)


class TestThreads:
    def test_putting_flushing_and_getting_at_once_loses_nothing(self, store: Store) -> None:
        blocks = [block_of(random.Random(n).choice((100, 5000, 40_000)), n) for n in range(300)]

        def work(seed: int) -> None:
            order = random.Random(seed)
            for block_id, block in order.sample(blocks, len(blocks)):
                store.put(block_id, block)
                assert store.get(block_id) == block
                if order.random() < 0.1:
                    store.flush()
                known_id, known = order.choice(blocks)
                if known_id in store:
                    assert store.get(known_id) == known

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(work, range(6)))
        store.flush()
        assert store.queued_bytes == 0
        assert store.totals().blocks == len(blocks)
        assert all(store.get(block_id) == block for block_id, block in blocks)

    def test_a_flush_covers_what_another_threads_commit_under_way_does_not(
        self, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        committing, go_on = threading.Event(), threading.Event()
        replace = store._index.replace

        def slow_replace(entries: list[object]) -> None:
            committing.set()
            go_on.wait(10)
            replace(entries)  # type: ignore[arg-type]  # only handed on

        monkeypatch.setattr(store._index, "replace", slow_replace)
        store.put(SMALL_ID, SMALL)
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(store.flush)
            assert committing.wait(10)
            store.put(LARGE_ID, LARGE)
            second = threads.submit(store.flush)
            go_on.set()
            first.result(10)
            second.result(10)
            assert store.totals().blocks == 2

    def test_readers_see_every_block_while_commits_come_and_go(self, store: Store) -> None:
        blocks = [block_of(2000, n) for n in range(500)]
        done = threading.Event()
        put: list[tuple[BlockId, bytes]] = []

        def read() -> int:
            reads, order = 0, random.Random(1)
            while not done.is_set() or not reads:
                if put:
                    block_id, block = order.choice(put)
                    assert store.get(block_id) == block
                    reads += 1
            return reads

        with ThreadPoolExecutor(2) as threads:
            readers = [threads.submit(read) for _ in range(2)]
            for n, (block_id, block) in enumerate(blocks):
                store.put(block_id, block)
                put.append((block_id, block))
                if n % 10 == 9:
                    store.flush()
            done.set()
            assert all(reader.result(10) > 0 for reader in readers)


class TestOpening:
    def test_temporary_files_of_a_crash_are_removed(self, folder: Path) -> None:
        keep(folder, (LARGE_ID, LARGE))
        (folder / "incoming" / f"{SMALL_ID}.7").write_bytes(b"half")
        with Store(folder) as store:
            assert list((folder / "incoming").iterdir()) == []
            assert store.get(LARGE_ID) == LARGE

    def test_a_store_of_a_newer_version_is_refused_untouched(self, folder: Path) -> None:
        keep(folder, (SMALL_ID, SMALL))
        change_stored_bytes(folder, "UPDATE meta SET value = 7 WHERE key = 'version'")
        left_over = folder / "incoming" / "theirs"
        left_over.write_bytes(b"")
        message = r"newer version .*\(store version 7, this program knows 3\): install that version"
        with pytest.raises(StoreVersion, match=message):
            Store(folder).__enter__()
        assert left_over.exists()

    def test_an_index_that_is_none_is_refused(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "index.sqlite").write_bytes(b"not a database, but long enough to be read" * 100)
        with pytest.raises(StoreError, match=r"index\.sqlite"):
            Store(folder).__enter__()

    def test_only_the_owner_can_look_in(self, folder: Path) -> None:
        keep(folder, (LARGE_ID, LARGE))
        assert folder.stat().st_mode & 0o777 == 0o700
        assert file_of(folder, LARGE_ID).stat().st_mode & 0o777 == 0o600

    def test_nothing_but_the_index_is_left_of_sqlite_after_closing(self, folder: Path) -> None:
        keep(folder, (SMALL_ID, SMALL))
        assert [path.name for path in folder.glob("index*")] == ["index.sqlite"]

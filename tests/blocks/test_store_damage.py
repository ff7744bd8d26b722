"""The store when the disk under it fails: damaged, missing and unwritable blocks, no space."""

import errno
import logging
import os
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from libernet.blocks.errors import BlockCorrupt, BlockNotFound, StoreFull
from libernet.blocks.ids import BlockId
from libernet.blocks.store import Store
from libernet.blocks.store_index import StoreTotals


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


@pytest.mark.announces("is damaged", "its file .* is gone", "damaged block .* could not be")
class TestDamage:
    """A block that went bad is reported, set aside, and whole again after the next put."""

    @pytest.mark.parametrize(
        "damage",
        [
            lambda block: block[:500] + bytes([block[500] ^ 1]) + block[501:],
            lambda block: block[:-1],
            lambda block: b"",
        ],
        ids=["a flipped bit", "cut short", "empty"],
    )
    def test_a_large_block_heals(
        self,
        folder: Path,
        damage: Callable[[bytes], bytes],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        keep(folder, (LARGE_ID, LARGE), (SMALL_ID, SMALL))
        file_of(folder, LARGE_ID).write_bytes(damage(LARGE))
        with Store(folder) as store:
            assert_corrupt_then_healed(store, LARGE_ID, LARGE, caplog)
            assert store.get(SMALL_ID) == SMALL
        assert (folder / "corrupt" / str(LARGE_ID)).read_bytes() == damage(LARGE)

    def test_a_small_block_heals(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        keep(folder, (LARGE_ID, LARGE), (SMALL_ID, SMALL))
        change_stored_bytes(folder, "UPDATE content SET bytes = ?", b"wrong")
        with Store(folder) as store:
            assert_corrupt_then_healed(store, SMALL_ID, SMALL, caplog)
            assert store.get(LARGE_ID) == LARGE
        assert (folder / "corrupt" / str(SMALL_ID)).read_bytes() == b"wrong"

    def test_a_small_block_whose_bytes_are_gone_heals(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        keep(folder, (SMALL_ID, SMALL))
        change_stored_bytes(folder, "DELETE FROM content")
        with Store(folder) as store:
            assert_corrupt_then_healed(store, SMALL_ID, SMALL, caplog)

    def test_putting_a_large_block_heals_it_before_anybody_has_read_it(self, folder: Path) -> None:
        keep(folder, (LARGE_ID, LARGE))
        file_of(folder, LARGE_ID).write_bytes(bytes(len(LARGE)))
        keep(folder, (LARGE_ID, LARGE))
        with Store(folder) as store:
            assert store.get(LARGE_ID) == LARGE

    def test_putting_a_small_block_heals_it_before_anybody_has_read_it(self, folder: Path) -> None:
        keep(folder, (SMALL_ID, SMALL))
        change_stored_bytes(folder, "UPDATE content SET bytes = ?", b"wrong")
        with Store(folder) as store:
            store.put(SMALL_ID, SMALL)
            store.flush()
            assert store.get(SMALL_ID) == SMALL
            assert store.totals() == StoreTotals(blocks=1, bytes=4096)

    def test_wrong_bytes_put_under_an_id_are_never_served(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.put(SMALL_ID, b"something else")
        assert_corrupt_then_healed(store, SMALL_ID, SMALL, caplog)

    def test_many_readers_of_a_damaged_block_report_it_once(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        keep(folder, (LARGE_ID, LARGE))
        file_of(folder, LARGE_ID).write_bytes(bytes(len(LARGE)))
        started = threading.Barrier(8)
        with Store(folder) as store, ThreadPoolExecutor(8) as threads:

            def read(_: int) -> None:
                started.wait(10)
                with pytest.raises((BlockCorrupt, BlockNotFound)):
                    store.get(LARGE_ID)

            list(threads.map(read, range(8)))
        assert len(caplog.messages) == 1

    def test_a_block_put_anew_while_readers_report_the_damage_is_kept(self, folder: Path) -> None:
        keep(folder, (LARGE_ID, LARGE))
        with Store(folder) as store, ThreadPoolExecutor(4) as threads:
            for _ in range(20):
                file_of(folder, LARGE_ID).write_bytes(b"short")

                def read(_: int) -> None:
                    try:
                        assert store.get(LARGE_ID) == LARGE
                    except (BlockCorrupt, BlockNotFound):
                        store.put(LARGE_ID, LARGE)
                        store.flush()

                list(threads.map(read, range(4)))
                assert store.get(LARGE_ID) == LARGE
                assert store.totals().blocks == 1

    def test_a_late_report_of_damage_does_not_undo_that_the_block_was_put_anew(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep(folder, (LARGE_ID, LARGE))
        file_of(folder, LARGE_ID).write_bytes(bytes(len(LARGE)))
        with Store(folder) as store:
            look_again = store._damage.look_again

            def look_again_late(block_id: BlockId) -> bytes:
                with pytest.raises(BlockCorrupt):
                    look_again(block_id)
                store.put(LARGE_ID, LARGE)
                store.flush()
                return look_again(block_id)

            monkeypatch.setattr(store._damage, "look_again", look_again_late)
            assert store.get(LARGE_ID) == LARGE
            assert store.totals().blocks == 1

    def test_a_missing_file_is_not_found_and_heals(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        keep(folder, (LARGE_ID, LARGE))
        file_of(folder, LARGE_ID).unlink()
        with Store(folder) as store:
            with pytest.raises(BlockNotFound, match=str(LARGE_ID)):
                store.get(LARGE_ID)
            assert caplog.record_tuples[0][1] == logging.WARNING
            store.put(LARGE_ID, LARGE)
            store.flush()
            assert store.get(LARGE_ID) == LARGE
            assert store.totals().blocks == 1

    def test_a_bad_sector_is_damage_too(
        self, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read(descriptor: int, size_bytes: int) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        keep(folder, (LARGE_ID, LARGE))
        with Store(folder) as store:
            with monkeypatch.context() as patched:
                patched.setattr(os, "read", read)
                with pytest.raises(BlockCorrupt):
                    store.get(LARGE_ID)
            store.put(LARGE_ID, LARGE)
            assert store.get(LARGE_ID) == LARGE

    def test_a_damaged_block_that_cannot_be_kept_aside_heals_too(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        keep(folder, (LARGE_ID, LARGE))
        file_of(folder, LARGE_ID).write_bytes(bytes(len(LARGE)))
        with Store(folder) as store:
            (folder / "corrupt").rmdir()
            with pytest.raises(BlockCorrupt):
                store.get(LARGE_ID)
            store.put(LARGE_ID, LARGE)
            assert store.get(LARGE_ID) == LARGE

    def test_a_block_that_cannot_be_forgotten_for_want_of_space_heals_too(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep(folder, (LARGE_ID, LARGE), (SMALL_ID, SMALL))
        file_of(folder, LARGE_ID).write_bytes(bytes(len(LARGE)))
        change_stored_bytes(folder, "UPDATE content SET bytes = ?", b"wrong")

        def remove(block_id: BlockId) -> None:
            raise StoreFull("no space is left")

        with Store(folder) as store:
            monkeypatch.setattr(store._index, "remove", remove)
            for block_id, block in ((LARGE_ID, LARGE), (SMALL_ID, SMALL)):
                with pytest.raises(BlockCorrupt):
                    store.get(block_id)
                store.put(block_id, block)
                store.flush()
                assert store.get(block_id) == block
            assert store.totals().blocks == 2

    def test_a_file_that_nobody_acknowledged_is_not_trusted(self, folder: Path) -> None:
        keep(folder)
        file_of(folder, LARGE_ID).write_bytes(bytes(len(LARGE)))
        with Store(folder) as store:
            assert LARGE_ID not in store
            store.put(LARGE_ID, LARGE)
            assert store.get(LARGE_ID) == LARGE


def assert_corrupt_then_healed(
    store: Store, block_id: BlockId, block: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(BlockCorrupt, match=str(block_id)):
        store.get(block_id)
    assert [level for _, level, _ in caplog.record_tuples] == [logging.WARNING]
    assert str(block_id) in caplog.text
    assert block_id not in store
    with pytest.raises(BlockNotFound):
        store.get(block_id)
    for _ in range(2):
        store.put(block_id, block)
        assert store.get(block_id) == block
        store.flush()
    assert store.get(block_id) == block


class TestFullDisk:
    @pytest.mark.parametrize("size_bytes", [20_000, 500_000], ids=["small", "large"])
    def test_what_was_durable_stays_and_what_waits_becomes_durable_once_there_is_space(
        self, small_disk: Path, size_bytes: int
    ) -> None:
        folder = small_disk / "store"
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(4_000_000))
        durable, acknowledged, refused = [], [], []
        with Store(folder) as store:
            for seed in range(400):
                block_id, block = block_of(size_bytes, seed)
                try:
                    store.put(block_id, block)
                    acknowledged.append((block_id, block))
                    store.flush()
                    durable = acknowledged[:]
                except StoreFull:
                    refused.append((block_id, block))
                    break
            assert durable
            assert refused
            assert list((folder / "incoming").iterdir()) == []
            for block_id, block in acknowledged:
                assert store.get(block_id) == block

            ballast.unlink()
            store.flush()
            store.put(*refused[0])
        with Store(folder) as store:
            for block_id, block in [*acknowledged, *refused]:
                assert store.get(block_id) == block

    def test_a_store_that_cannot_be_made_says_that_space_is_missing(self, small_disk: Path) -> None:
        with pytest.raises(OSError, match="No space"):
            (small_disk / "ballast").write_bytes(bytes(9_000_000))
        with pytest.raises(StoreFull, match="no space is left"):
            Store(small_disk / "store").__enter__()

    def test_a_name_that_finds_no_space_leaves_nothing_behind(
        self, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def rename(source: str, target: str) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)

        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", rename)
            with pytest.raises(StoreFull):
                store.put(LARGE_ID, LARGE)
        assert LARGE_ID not in store
        assert list((folder / "incoming").iterdir()) == []

    def test_a_folder_that_cannot_be_synced_keeps_the_block_queued(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fsync(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        store.put(LARGE_ID, LARGE)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            with pytest.raises(StoreFull):
                store.flush()
        assert store.totals().blocks == 0
        store.flush()
        assert store.totals().blocks == 1

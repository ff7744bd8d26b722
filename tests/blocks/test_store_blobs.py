"""Blobs of LBRYnet in the store: named by SHA-384, otherwise blocks like any other."""

import io
import os
import shutil
from pathlib import Path

import pytest

from libernet.blocks.errors import BlockCorrupt, BlockNotFound, BlockTooLarge, StoreFull
from libernet.blocks.ids import BlobId, BlockId
from libernet.blocks.limits import MAX_BLOB_BYTES
from libernet.blocks.store import SMALL_BLOCK_BYTES, Store
from libernet.blocks.streams import write_stream

_SIZES = [0, 4096, SMALL_BLOCK_BYTES + 1, MAX_BLOB_BYTES]


@pytest.mark.parametrize("size_bytes", _SIZES)
@pytest.mark.parametrize("is_cached", [False, True])
def test_a_blob_is_readable_before_and_after_the_flush_and_after_a_restart(
    tmp_path: Path, size_bytes: int, is_cached: bool
) -> None:
    blob = os.urandom(size_bytes)
    blob_id = BlobId.of(blob)
    with Store(tmp_path) as store:
        if is_cached:
            assert store.put_cached(blob_id, blob)
        else:
            store.put(blob_id, blob)
        assert store.get(blob_id) == blob
        store.flush()
        assert (store.get(blob_id), store.size(blob_id)) == (blob, size_bytes)
    with Store(tmp_path) as store:
        assert store.get(blob_id) == blob


def test_a_blob_and_a_block_of_the_same_bytes_stand_beside_each_other(tmp_path: Path) -> None:
    for content in (b"small", os.urandom(100_000)):
        with Store(tmp_path) as store:
            store.put(BlobId.of(content), content)
            assert BlockId.of(content) not in store
            store.put(BlockId.of(content), content)
            store.flush()
            assert store.get(BlobId.of(content)) == store.get(BlockId.of(content)) == content


def test_more_than_a_blob_may_have_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path) as store, pytest.raises(BlockTooLarge):
        store.put(BlobId(bytes(48)), bytes(MAX_BLOB_BYTES + 1))


def test_a_stream_for_which_there_is_no_room_leaves_what_was_there(small_disk: Path) -> None:
    held = os.urandom(100_000)
    with Store(small_disk / "store", reserve_bytes=0) as store:
        store.put(BlobId.of(held), held)
        store.flush()
        with pytest.raises(StoreFull):
            write_stream(io.BytesIO(bytes(20 * MAX_BLOB_BYTES)), "large", store.put)
        assert store.get(BlobId.of(held)) == held
    with Store(small_disk / "store", reserve_bytes=0) as store:
        assert store.get(BlobId.of(held)) == held
        assert list(store.check(read=store.get)) == []


def test_a_cached_blob_survives_a_crash_and_one_without_a_row_does_not(tmp_path: Path) -> None:
    blob = os.urandom(MAX_BLOB_BYTES)
    lost = os.urandom(100_000)
    before, after = tmp_path / "before", tmp_path / "after"
    with Store(before) as store:
        store.put_cached(BlobId.of(blob), blob)
        store.flush()
        store.put_cached(BlobId.of(lost), lost)
        shutil.copytree(before, after)  # what kill -9 leaves
    with Store(after) as store:
        assert store.get(BlobId.of(blob)) == blob
        assert BlobId.of(lost) not in store
    assert [path.name for path in (after / "cached").iterdir()] == [str(BlobId.of(blob))]


def test_cached_blobs_are_given_up_when_room_is_needed(tmp_path: Path) -> None:
    seconds = iter(range(10**6))
    with Store(tmp_path, cache_bytes=5 * MAX_BLOB_BYTES, clock=lambda: next(seconds)) as store:
        blobs = [bytes([number]) * MAX_BLOB_BYTES for number in range(8)]
        for blob in blobs:
            assert store.put_cached(BlobId.of(blob), blob)
            store.flush()
        kept = [BlobId.of(blob) in store for blob in blobs]
        assert not kept[0]
        assert kept[-1]
        assert store.cached_totals().bytes <= 5 * MAX_BLOB_BYTES


@pytest.mark.parametrize("size_bytes", [4096, 100_000])
def test_a_damaged_blob_is_set_aside(tmp_path: Path, size_bytes: int) -> None:
    blob = os.urandom(size_bytes)
    blob_id = BlobId.of(blob)
    with Store(tmp_path) as store:
        store.put(blob_id, blob)
    if size_bytes <= SMALL_BLOCK_BYTES:
        index = tmp_path / "index.sqlite"
        stored = index.read_bytes()
        assert stored.count(blob[:100]) == 1
        index.write_bytes(stored.replace(blob[:100], bytes(100)))
    else:
        (tmp_path / "blocks" / f"{blob_id[0]:02x}" / str(blob_id)).write_bytes(bytes(size_bytes))
    with Store(tmp_path) as store:
        with pytest.raises(BlockCorrupt):
            store.get(blob_id)
        with pytest.raises(BlockNotFound):
            store.get(blob_id)
        assert (tmp_path / "corrupt" / str(blob_id)).exists()
        store.put(blob_id, blob)
        assert store.get(blob_id) == blob

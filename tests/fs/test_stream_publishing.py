"""Publishing files as streams: durable before the address is known, and kept from then on."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from libernet.blocks.blobs import MAX_PIECE_BYTES
from libernet.blocks.descriptors import MAX_STREAM_BYTES
from libernet.blocks.errors import BlockNotFound, FormatError, LibernetError, StoreFull
from libernet.blocks.ids import BlobId
from libernet.blocks.streams import StreamAddress
from libernet.fs.node import LocalNode
from libernet.fs.publications import Kind
from libernet.fs.publish_handlers import PublishCommands
from libernet.fs.storage import Storage
from libernet.fs.stream_publisher import needed_blobs
from tests.support.caller import Caller, node_settings, opened_node


@asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[tuple[Storage, LocalNode]]:
    with opened_node(folder, node_settings(folder)) as (storage, node):
        async with node.running():
            yield storage, node


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "what a file?.bin"
    path.write_bytes(os.urandom(2 * MAX_PIECE_BYTES + 100))
    return path


async def test_a_published_file_is_read_in_the_mount(tmp_path: Path, file: Path) -> None:
    async with _running(tmp_path / "state") as (_, node):
        address = await node.stream_publisher.publish(file)
        assert str(address).endswith("/what%20a%20file.bin")
        assert await Caller(node.namespace).read(str(address)[1:].replace("%20", " ")) == (
            file.read_bytes()
        )


async def test_a_publication_and_all_it_needs_are_here_after_a_restart(
    tmp_path: Path, file: Path
) -> None:
    async with _running(tmp_path / "state") as (storage, node):
        address = await node.stream_publisher.publish(file)
    async with _running(tmp_path / "state") as (storage, node):
        [publication] = node.publications.all()
        assert publication.reference == str(address)
        assert (publication.kind, publication.path) == (Kind.STREAM, os.fsencode(file))
        needed = needed_blobs(publication.reference, storage.store)
        assert [len(storage.store.get(blob_id)) for blob_id in needed[1:]] == [
            MAX_PIECE_BYTES + 1,
            MAX_PIECE_BYTES + 1,
            112,
        ]
        assert needed[0] == address.sd_hash


async def test_everything_is_durable_before_the_publication_is_recorded(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _running(tmp_path / "state") as (storage, node):

        async def record(reference: str, path: bytes, kind: Kind) -> None:
            assert storage.store.queued_blocks == 0
            raise ZeroDivisionError

        monkeypatch.setattr(node.publications, "record", record)
        with pytest.raises(ZeroDivisionError):
            await node.stream_publisher.publish(file)


async def test_what_cannot_be_stored_is_not_published(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _running(tmp_path / "state") as (storage, node):
        with monkeypatch.context() as patch:

            def full() -> None:
                raise StoreFull("no space is left")

            patch.setattr(storage.store, "flush", full)
            with pytest.raises(StoreFull):
                await node.stream_publisher.publish(file)
        assert node.publications.all() == []
        await node.stream_publisher.publish(file)
        assert len(node.publications.all()) == 1


async def test_the_same_file_has_another_address_each_time(tmp_path: Path, file: Path) -> None:
    async with _running(tmp_path / "state") as (_, node):
        first = await node.stream_publisher.publish(file)
        second = await node.stream_publisher.publish(file)
        assert first.sd_hash != second.sd_hash
        assert len(node.publications.all()) == 2


async def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    long = tmp_path / "long"
    long.touch()
    os.truncate(long, MAX_STREAM_BYTES + 1)
    async with _running(tmp_path / "state") as (storage, node):
        with trio.fail_after(60), pytest.raises(LibernetError, match="no regular file"):
            await node.stream_publisher.publish(tmp_path / "fifo")
        with pytest.raises(LibernetError, match="at most"):
            await node.stream_publisher.publish(long)
        for path in (tmp_path / "folder", tmp_path / "nothing"):
            with pytest.raises(OSError, match=str(path)):
                await node.stream_publisher.publish(path)
        assert storage.store.totals().blocks == 0
        assert node.publications.all() == []


async def test_a_publication_that_is_cancelled_ends_after_the_blob_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    os.truncate(file, 50 * MAX_PIECE_BYTES)
    async with _running(tmp_path / "state") as (storage, node):
        put = []
        with trio.CancelScope() as scope:

            def put_one(blob_id: BlobId, blob: memoryview) -> None:
                put.append(blob_id)
                trio.from_thread.run_sync(scope.cancel)

            monkeypatch.setattr(storage.store, "put", put_one)
            await node.stream_publisher.publish(file)
        assert scope.cancelled_caught
        assert len(put) == 1
        assert node.publications.all() == []


async def test_of_a_stream_whose_descriptor_is_lost_nobody_says_what_it_needs(
    tmp_path: Path,
) -> None:
    async with _running(tmp_path / "state") as (storage, _):
        with pytest.raises(BlockNotFound):
            needed_blobs(str(StreamAddress(BlobId.of(b"lost"))), storage.store)


@pytest.mark.parametrize("path", [None, 7, "", "relative", "/with\0nul"])
async def test_a_request_without_an_absolute_path_is_refused(tmp_path: Path, path: object) -> None:
    async with _running(tmp_path / "state") as (_, node):
        commands = PublishCommands(node.paths, node.flat_publisher, node.stream_publisher)
        handler = commands.handlers()["publish-stream"]
        with pytest.raises(FormatError):
            await handler({"path": path})

"""Streams of LBRYnet as folders: the whole of what is here, and why the rest is not."""

import os
import random
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from libernet.blocks.blobs import BlobSealer
from libernet.blocks.descriptors import StreamBlob, write_descriptor
from libernet.blocks.errors import BlockCorrupt, BlockNotFound, FormatError, PeerTimeout
from libernet.blocks.ids import BlobId, BlockId, StoredId
from libernet.blocks.limits import MAX_BLOB_BYTES
from libernet.blocks.source import Origin
from libernet.fs.bundle_growth import LOOK_SECONDS
from libernet.fs.chunks import ChunkCache
from libernet.fs.nodes import FileNode, Node, folder_appearance
from libernet.fs.stream_view import StreamFolder, Streams, StreamsFolder
from tests.support.caller import OWNER, Caller, node_settings, opened_node
from tests.support.streams import IV, KEY, VECTORS, Blobs, blobs_of, content_of, cut_stream

T = TypeVar("T")


class World:
    """Blobs behind a mount: those here, and those that somebody sends when the gate opens.

    State: `asked`, what was asked for in that order.
    """

    def __init__(self, blobs: Blobs | None = None) -> None:
        self.here: Blobs = dict(blobs or {})
        self.coming: dict[BlobId, trio.Event] = {}
        self.asked: list[StoredId] = []
        self.streams = Streams(self, ChunkCache(self, lambda _: True), self._is_here)

    def _is_here(self, blob_id: BlobId) -> bool:
        return blob_id in self.here and blob_id not in self.coming

    async def get(
        self,
        block_id: StoredId,
        use: Callable[[bytes], T],
        origin: Origin | None = None,
        *,
        ahead: bool = False,
    ) -> T:
        self.asked.append(block_id)
        if block_id in self.coming:
            await self.coming[block_id].wait()
        if block_id not in self.here:
            raise BlockNotFound(f"nobody has {block_id}")
        return use(self.here[block_id])

    def bring(self, block_ids: Sequence[BlockId], origin: Origin) -> None:
        raise NotImplementedError

    def ahead_bytes(self, origin: object) -> int:
        return 0

    def folder(self, sd_hash: BlobId) -> StreamFolder:
        return StreamFolder(folder_appearance(*OWNER, 7), self.streams, sd_hash)

    async def file(self, sd_hash: BlobId, name: bytes = b"file") -> FileNode:
        node = await self.folder(sd_hash).lookup(name)
        assert isinstance(node, FileNode)
        return node


async def read_through(file: FileNode, step: int = 100_000) -> bytes:
    found = b""
    while piece := await file.read(len(found), step):
        found += piece
    return found


@pytest.mark.parametrize("name", VECTORS)
async def test_a_stream_of_the_original_is_a_file_in_the_mount(tmp_path: Path, name: str) -> None:
    sd_hash, old_sd_hash, blobs = blobs_of(name)
    expected = content_of(name)
    with opened_node(tmp_path, node_settings(tmp_path)) as (storage, node):
        for blob_id, blob in blobs.items():
            storage.store.put(blob_id, blob)
        async with node.running():
            caller = Caller(node.namespace)
            for folder in (f"sha384/{sd_hash}", f"sha384/{old_sd_hash}"):
                [file_name] = await caller.names(folder)
                assert file_name == VECTORS[name]["suggested_file_name"]
                entry = await caller.stat(f"{folder}/{file_name}")
                assert (entry.look.mode, entry.look.size) == (stat.S_IFREG | 0o444, len(expected))
                assert (entry.look.uid, entry.look.gid) == OWNER
                assert await caller.read(f"{folder}/{file_name}") == expected


async def test_folders_of_addresses_answer_from_syntax_alone() -> None:
    world = World()
    top = StreamsFolder(folder_appearance(*OWNER, 7), world.streams)
    sd_hash = str(BlobId.of(b"nobody has it"))
    assert stat.S_ISDIR((await top.lookup(sd_hash.encode())).appearance.mode)
    assert await top.children(b"", 10) == []
    for name in (sd_hash[:-1], sd_hash.upper(), sd_hash[:64], f"{sd_hash}\n", "é", "", "."):
        with pytest.raises(FileNotFoundError):
            await top.lookup(name.encode())
    assert world.asked == []


async def test_any_other_name_is_not_there() -> None:
    ids, blobs = cut_stream([b"content"], "what?.txt")
    folder = World(blobs).folder(ids[0])
    file = await folder.lookup(b"what.txt")
    assert isinstance(file, FileNode)
    assert file.address() == f"{folder.address()}/what.txt"
    for name in (b"what?.txt", b"what", b"WHAT.TXT", b".."):
        with pytest.raises(FileNotFoundError):
            await folder.lookup(name)


async def test_a_listing_goes_on_behind_the_one_name() -> None:
    ids, blobs = cut_stream([b"content"], "name")
    folder = World(blobs).folder(ids[0])
    assert [name for name, _ in await folder.children(b"", 10)] == [b"name"]
    assert [name for name, _ in await folder.children(b"nam", 10)] == [b"name"]
    assert await folder.children(b"name", 10) == []


async def test_a_listing_opens_no_blob() -> None:
    ids, blobs = cut_stream([b"content"], "name")
    world = World(blobs)
    await world.folder(ids[0]).children(b"", 10)
    assert world.asked == ids[:1]


@settings(max_examples=50)
@given(st.data())
def test_a_stream_is_read_anywhere_however_it_was_cut(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.sampled_from([0, 1, 15, 16, 17, 40, 100]), max_size=6))
    # of one stored length come only pieces of one length, as in every stream that is cut evenly
    by_stored: dict[int, int] = {}
    lengths = [by_stored.setdefault(length // 16, length) for length in lengths]
    lengths.append(data.draw(st.integers(0, 120)))
    content = random.Random(1).randbytes(sum(lengths))
    pieces, start = [], 0
    for length in lengths:
        pieces.append(content[start : start + length])
        start += length
    ids, blobs = cut_stream(pieces)

    async def read() -> None:
        file = await World(blobs).file(ids[0])
        assert file.appearance.size == len(content)
        for _ in range(10):
            offset = data.draw(st.integers(0, len(content) + 20))
            size = data.draw(st.integers(0, 150))
            # each time by another reader, who knows nothing of the blobs yet
            fresh = await World(blobs).file(ids[0])
            for each in (file, fresh):
                assert await each.read(offset, size) == content[offset : offset + size]

    trio.run(read)


async def test_of_a_long_stream_two_blobs_are_opened_to_know_its_size() -> None:
    ids, blobs = cut_stream([os.urandom(1000) for _ in range(50)])
    world = World(blobs)
    file = await world.file(ids[0])
    assert file.appearance.size == 50_000
    assert world.asked == [ids[0], ids[1], ids[50]]
    await file.read(30_500, 10)
    assert world.asked[3:] == [ids[31]]


async def test_where_equally_long_blobs_hold_different_amounts_only_the_first_read_fails() -> None:
    pieces = [os.urandom(length) for length in (100, 101, 100, 97, 3)]
    content = b"".join(pieces)
    ids, blobs = cut_stream(pieces)
    world = World(blobs)
    file = await world.file(ids[0])
    assert await file.read(0, 50) == content[:50]
    with pytest.raises(FormatError, match="different amounts"):
        await read_through(file, 10)
    again = await world.file(ids[0])
    assert again.appearance.size == len(content)
    for each in (file, again):
        assert await read_through(each, 10) == content
        assert await each.read(299, 5) == content[299:304]


async def test_a_blob_that_is_shorter_than_its_descriptor_says_is_refused() -> None:
    blob_id, blob = BlobSealer(KEY).seal(b"short", IV)
    stored = bytes(blob)
    listed = [StreamBlob(blob_id, IV, MAX_BLOB_BYTES)]
    descriptor = write_descriptor(KEY, listed, IV, "file")
    file = await World({blob_id: stored, BlobId.of(descriptor): descriptor}).file(
        BlobId.of(descriptor)
    )
    with pytest.raises(FormatError, match="not as long"):
        await file.read(0, 1)


async def test_a_blob_that_is_not_here_ends_reading_and_not_looking() -> None:
    pieces = [os.urandom(1000) for _ in range(5)]
    ids, blobs = cut_stream(pieces)
    del blobs[ids[3]]
    file = await World(blobs).file(ids[0])
    assert file.appearance.size == 5000
    assert await file.read(0, 2000) == b"".join(pieces[:2])
    assert await file.read(3000, 2000) == b"".join(pieces[3:])
    with pytest.raises(BlockNotFound):
        await file.read(1990, 20)


async def test_the_size_is_the_most_it_can_be_until_the_last_blob_is_here() -> None:
    pieces = [os.urandom(1000) for _ in range(5)]
    ids, blobs = cut_stream(pieces)
    last = blobs.pop(ids[-1])
    world = World(blobs)
    file = await world.file(ids[0])
    assert 5000 <= file.appearance.size <= 5015
    assert not file.is_lasting
    assert ids[-1] not in world.asked
    world.here[ids[-1]] = last
    assert (await world.file(ids[0])).appearance.size == 5000
    assert await read_through(file) == b"".join(pieces)


async def test_what_is_no_descriptor_is_an_error_of_its_folder() -> None:
    blob = b"no descriptor"
    folder = World({BlobId.of(blob): blob}).folder(BlobId.of(blob))
    with pytest.raises(FormatError):
        await folder.children(b"", 10)
    with pytest.raises(FormatError):
        await folder.lookup(b"file")


async def test_a_key_that_does_not_fit_is_corruption() -> None:
    ids, blobs = cut_stream([b"content"])
    broken = blobs[ids[1]][::-1]
    listed = [StreamBlob(BlobId.of(broken), IV, len(broken))]
    descriptor = write_descriptor(KEY, listed, IV, "file")
    world = World({BlobId.of(broken): broken, BlobId.of(descriptor): descriptor})
    file = await world.file(BlobId.of(descriptor))
    with pytest.raises(BlockCorrupt):
        await file.read(0, 1)


async def test_a_descriptor_that_does_not_come_is_not_waited_for_long(
    autojump_clock: MockClock,
) -> None:
    ids, blobs = cut_stream([b"content"])
    world = World(blobs)
    world.coming[ids[0]] = trio.Event()
    folder = world.folder(ids[0])
    for look in (lambda: folder.children(b"", 10), lambda: folder.lookup(b"file")):
        began = trio.current_time()
        with pytest.raises(PeerTimeout):
            await look()
        assert trio.current_time() == began + LOOK_SECONDS
    world.coming.pop(ids[0]).set()
    assert isinstance(await folder.lookup(b"file"), FileNode)


async def test_nobody_has_the_descriptor_says_the_folder() -> None:
    folder = World().folder(BlobId.of(b"descriptor"))
    with pytest.raises(BlockNotFound):
        await folder.children(b"", 10)


async def test_many_who_look_at_one_time_open_each_blob_once() -> None:
    ids, blobs = cut_stream([os.urandom(1000) for _ in range(5)])
    world = World(blobs)
    for blob_id in ids[1:]:
        world.coming[blob_id] = trio.Event()
    files: list[FileNode] = []
    contents: list[bytes] = []

    async def look() -> None:
        file = await world.file(ids[0])
        files.append(file)
        contents.append(await read_through(file, 700))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(look)
        await wait_all_tasks_blocked()
        for event in world.coming.values():
            event.set()
    assert len(set(contents)) == 1
    assert len(contents[0]) == 5000
    blobs_asked = [blob_id for blob_id in world.asked if blob_id != ids[0]]
    assert sorted(blobs_asked) == sorted(ids[1:])


async def test_reading_ahead_starts_the_blobs_of_a_range() -> None:
    pieces = [os.urandom(1000) for _ in range(10)]
    ids, blobs = cut_stream(pieces)
    world = World(blobs)
    chunks = ChunkCache(world, world._is_here)
    world.streams = Streams(world, chunks, world._is_here)
    file = await world.file(ids[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chunks.run)
        file.read_ahead(1500, 2500)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sorted(world.asked[3:]) == sorted(ids[2:5])


async def test_as_many_streams_as_one_likes_can_be_looked_into() -> None:
    blobs: Blobs = {}
    folders = []
    for number in range(20):
        ids, more = cut_stream([b"%d" % number])
        blobs |= more
        folders.append(ids[0])
    world = World(blobs)
    files: list[Node] = [await world.file(sd_hash) for sd_hash in folders]
    for number, file in enumerate(files):
        assert isinstance(file, FileNode)
        assert await file.read(0, 10) == b"%d" % number

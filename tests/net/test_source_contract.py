"""What every source of blocks promises: the store alone, and the network behind it."""

import threading
from collections.abc import AsyncIterator

import pytest
import trio

from libernet.blocks.errors import BlockNotFound
from libernet.blocks.ids import BlobId, BlockId
from libernet.blocks.source import BlockSource, Origin
from libernet.blocks.store import SMALL_BLOCK_BYTES, Store
from libernet.net.fetcher import Fetcher
from libernet.net.local import LocalSource
from tests.support.far import FarNodes, ScriptedDiscovery

BLOCKS = {
    BlockId.of(block): block
    for block in (b"", b"small", bytes(SMALL_BLOCK_BYTES), bytes(SMALL_BLOCK_BYTES + 1))
}
IDS = list(BLOCKS)
ABSENT = BlockId.of(b"nobody has it")
ORIGINS = [None, Origin(IDS[0]), Origin(ABSENT, "/path")]


@pytest.fixture(params=["local", "fetcher with all here", "fetcher with all at a peer"])
async def source(
    request: pytest.FixtureRequest, store: Store, nursery: trio.Nursery
) -> AsyncIterator[BlockSource]:
    if request.param != "fetcher with all at a peer":
        for block_id, block in BLOCKS.items():
            store.put(block_id, block)
    if request.param == "local":
        yield LocalSource(store)
        return
    far, discovery = FarNodes(nursery), ScriptedDiscovery()
    peer = far.node("peer")
    peer.add(*BLOCKS.values())
    discovery.hints.append(peer.address)
    fetcher = Fetcher(store, discovery, far.peers())
    await nursery.start(fetcher.run)
    yield fetcher
    nursery.cancel_scope.cancel()


async def test_a_block_is_what_its_id_says(source: BlockSource) -> None:
    for origin in ORIGINS:
        for block_id, block in BLOCKS.items():
            assert await source.get(block_id, bytes, origin) == block


async def test_what_is_made_of_a_block_is_returned(source: BlockSource) -> None:
    assert [await source.get(block_id, len) for block_id in IDS] == list(map(len, BLOCKS.values()))


async def test_large_blocks_are_used_beside_the_loop(source: BlockSource) -> None:
    used_in = await source.get(IDS[-1], lambda block: threading.current_thread())
    assert used_in is not threading.current_thread()


async def test_an_error_of_the_use_is_the_readers(source: BlockSource) -> None:
    def use(block: bytes) -> bytes:
        raise ZeroDivisionError

    for block_id in [*IDS, *IDS]:
        with pytest.raises(ZeroDivisionError):
            await source.get(block_id, use)
    assert [await source.get(block_id, bytes) for block_id in IDS] == [*BLOCKS.values()]


async def test_a_block_that_nobody_has_is_not_found_each_time(source: BlockSource) -> None:
    for origin in ORIGINS:
        with pytest.raises(BlockNotFound):
            await source.get(ABSENT, bytes, origin)


async def test_a_blob_that_is_not_here_is_not_found_at_once(source: BlockSource) -> None:
    for origin in ORIGINS:
        with trio.fail_after(1), pytest.raises(BlockNotFound):
            await source.get(BlobId.of(b"small"), bytes, origin)


async def test_many_readers_may_come_at_one_time(source: BlockSource) -> None:
    got: list[bytes] = []

    async def read(block_id: BlockId) -> None:
        got.append(await source.get(block_id, bytes))

    async with trio.open_nursery() as readers:
        for block_id in IDS * 10:
            readers.start_soon(read, block_id)
    assert sorted(got, key=len) == sorted([*BLOCKS.values()] * 10, key=len)


@pytest.mark.parametrize("ids", [[], IDS, [ABSENT], [*IDS, ABSENT, *IDS]], ids=len)
async def test_bringing_changes_nothing_that_readers_see(
    source: BlockSource, ids: list[BlockId]
) -> None:
    source.bring(ids, Origin(IDS[0]))
    for block_id, block in BLOCKS.items():
        assert await source.get(block_id, bytes) == block
    with pytest.raises(BlockNotFound):
        await source.get(ABSENT, bytes)


async def test_a_reader_can_be_cancelled(source: BlockSource) -> None:
    with trio.move_on_after(0):
        await source.get(IDS[-1], bytes)
    assert await source.get(IDS[-1], bytes) == BLOCKS[IDS[-1]]

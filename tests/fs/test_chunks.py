import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
import trio
import trio.testing

from libernet.blocks.errors import BlockCorrupt, BlockNotFound
from libernet.blocks.ids import BlockId, StoredId
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import Sealer
from libernet.fs import chunks
from libernet.fs.ahead import Reading
from libernet.fs.chunks import ChunkCache

T = TypeVar("T")


class Source:
    """Blocks out of a dict, given out when the gate is open.

    `asked` lists the ids asked for, in order; `most` is how many were on their way at one time,
    `waiting` how many are; `hint` is what it says of how far to read ahead.
    """

    def __init__(self) -> None:
        self.blocks: dict[BlockId, bytes] = {}
        self.asked: list[BlockId] = []
        self.most = 0
        self.hint = 0
        self.gate = trio.Event()
        self.gate.set()
        self.waiting = 0
        self._sealer = Sealer(bytes(32))

    def add(self, chunk: bytes) -> Reference:
        reference, block = self._sealer.seal(chunk)
        self.blocks[reference.id] = block
        return reference

    def close(self) -> None:
        self.gate = trio.Event()

    async def get(
        self,
        block_id: BlockId,
        use: Callable[[bytes], T],
        origin: object = None,
        *,
        ahead: bool = False,
    ) -> T:
        self.asked.append(block_id)
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        block = self.blocks.get(block_id)
        if block is None:
            raise BlockNotFound(str(block_id))
        return use(block)

    def bring(self, block_ids: Sequence[BlockId], origin: object) -> None:
        raise NotImplementedError

    def ahead_bytes(self, origin: object) -> int:
        return self.hint


@pytest.fixture
async def source() -> Source:
    return Source()


@pytest.fixture
async def cache(source: Source, nursery: trio.Nursery) -> ChunkCache:
    cache = ChunkCache(source, lambda _: True)
    nursery.start_soon(cache.run)
    return cache


class Reader:
    """Gets a chunk in a task of its own; `outcome` is the chunk or the error."""

    def __init__(self, cache: ChunkCache, reference: Reference) -> None:
        self._cache = cache
        self._reference = reference
        self.outcome: bytes | Exception | None = None
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        with self.scope:
            try:
                self.outcome = await self._cache.get(self._reference)
            except (BlockNotFound, BlockCorrupt) as exc:
                self.outcome = exc


async def _waiting_readers(
    count: int, cache: ChunkCache, reference: Reference, nursery: trio.Nursery
) -> list[Reader]:
    readers = [Reader(cache, reference) for _ in range(count)]
    for reader in readers:
        nursery.start_soon(reader.run)
    await trio.testing.wait_all_tasks_blocked()
    return readers


async def test_a_chunk_is_fetched_once_and_then_kept(cache: ChunkCache, source: Source) -> None:
    reference = source.add(b"chunk")
    assert await cache.get(reference) == b"chunk"
    assert await cache.get(reference) == b"chunk"
    assert source.asked == [reference.id]


async def test_one_fetch_serves_all_who_wait(
    cache: ChunkCache, source: Source, nursery: trio.Nursery
) -> None:
    reference = source.add(b"chunk")
    source.close()
    readers = await _waiting_readers(5, cache, reference, nursery)
    source.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert [reader.outcome for reader in readers] == [b"chunk"] * 5
    assert source.asked == [reference.id]


async def test_a_failed_fetch_is_told_to_all_who_waited_for_it(
    cache: ChunkCache, source: Source, nursery: trio.Nursery
) -> None:
    reference = source.add(b"chunk")
    del source.blocks[reference.id]
    source.close()
    readers = await _waiting_readers(5, cache, reference, nursery)
    source.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert all(isinstance(reader.outcome, BlockNotFound) for reader in readers)
    assert source.asked == [reference.id]


async def test_a_failed_fetch_is_tried_again_by_the_next_reader(
    cache: ChunkCache, source: Source
) -> None:
    reference = source.add(b"chunk")
    block = source.blocks.pop(reference.id)
    for _ in range(2):
        with pytest.raises(BlockNotFound):
            await cache.get(reference)
    source.blocks[reference.id] = block
    assert await cache.get(reference) == b"chunk"
    assert len(source.asked) == 3


async def test_what_was_waited_for_in_vain_fails_at_once_for_a_moment(
    cache: ChunkCache,
    source: Source,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
) -> None:
    reference = source.add(b"too late")
    block = source.blocks.pop(reference.id)
    source.close()
    readers = await _waiting_readers(2, cache, reference, nursery)
    await trio.sleep(28)
    source.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert all(isinstance(reader.outcome, BlockNotFound) for reader in readers)

    source.blocks[reference.id] = block
    with pytest.raises(BlockNotFound):
        await cache.get(reference)
    assert source.asked == [reference.id]
    await trio.sleep(1)
    assert await cache.get(reference) == b"too late"


async def test_what_was_waited_for_in_vain_is_not_loaded_ahead_for_a_moment(
    cache: ChunkCache,
    source: Source,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
) -> None:
    reference = source.add(b"too late")
    block = source.blocks.pop(reference.id)
    source.close()
    await _waiting_readers(1, cache, reference, nursery)
    await trio.sleep(28)
    source.gate.set()
    await trio.testing.wait_all_tasks_blocked()

    source.close()
    cache.prefetch(reference)
    with pytest.raises(BlockNotFound), trio.fail_after(1):
        await cache.get(reference)
    await trio.sleep(2)
    source.gate.set()
    source.blocks[reference.id] = block
    cache.prefetch(reference)
    await trio.testing.wait_all_tasks_blocked()
    assert cache.is_near(reference)


async def test_who_asks_again_and_again_gets_the_same_error_but_not_for_ever(
    cache: ChunkCache,
    source: Source,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
) -> None:
    reference = source.add(b"too late")
    block = source.blocks.pop(reference.id)
    source.close()
    await _waiting_readers(1, cache, reference, nursery)
    await trio.sleep(28)
    source.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    source.blocks[reference.id] = block
    for _ in range(6):
        await trio.sleep(0.8)
        with pytest.raises(BlockNotFound):
            await cache.get(reference)
    with trio.fail_after(10):
        while True:
            await trio.sleep(0.8)
            with contextlib.suppress(BlockNotFound):
                assert await cache.get(reference) == b"too late"
                break
    assert source.asked == [reference.id] * 2


async def test_a_reader_who_gives_up_leaves_the_others_waiting(
    cache: ChunkCache, source: Source, nursery: trio.Nursery
) -> None:
    reference = source.add(b"chunk")
    source.close()
    first, second, third = await _waiting_readers(3, cache, reference, nursery)
    first.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    source.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert first.outcome is None
    assert second.outcome == third.outcome == b"chunk"
    assert len(source.asked) <= 2


async def test_a_block_that_does_not_open_is_an_error_each_time(
    cache: ChunkCache, source: Source
) -> None:
    reference = source.add(b"chunk")
    source.blocks[reference.id] = b"x" + source.blocks[reference.id][1:]
    for _ in range(2):
        with pytest.raises(BlockCorrupt):
            await cache.get(reference)


async def test_one_block_under_another_key_is_not_taken_from_the_cache(
    cache: ChunkCache, source: Source
) -> None:
    reference = source.add(b"chunk")
    await cache.get(reference)
    with pytest.raises(BlockCorrupt):
        await cache.get(Reference(reference.id, reference.suite, b"another key".ljust(32)))


async def test_the_chunks_not_used_for_longest_make_room(
    cache: ChunkCache, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_CACHE_BYTES", 1000)
    first, second, third = (source.add(bytes([at]) * 400) for at in range(3))
    for reference in (first, second, first, third):
        await cache.get(reference)
    source.asked.clear()
    await cache.get(first)
    await cache.get(third)
    assert source.asked == []
    await cache.get(second)
    assert source.asked == [second.id]


async def test_the_cache_holds_no_more_than_its_limit(
    cache: ChunkCache, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_CACHE_BYTES", 1000)
    references = [source.add(bytes([at]) * (1 + 37 * at % 500)) for at in range(60)]
    for reference in references:
        await cache.get(reference)
    source.asked.clear()
    source.close()
    kept = 0
    for reference in reversed(references):
        with trio.move_on_after(0) as scope:
            kept += len(await cache.get(reference))
        if scope.cancelled_caught:
            break
    assert 500 < kept <= 1000


async def test_what_was_read_ahead_is_there_at_once(cache: ChunkCache, source: Source) -> None:
    reference = source.add(b"chunk")
    cache.prefetch(reference)
    await trio.testing.wait_all_tasks_blocked()
    source.close()
    assert await cache.get(reference) == b"chunk"
    assert source.asked == [reference.id]


async def test_a_reader_joins_what_is_being_read_ahead(
    cache: ChunkCache, source: Source, nursery: trio.Nursery
) -> None:
    reference = source.add(b"chunk")
    source.close()
    for _ in range(3):
        cache.prefetch(reference)
    (reader,) = await _waiting_readers(1, cache, reference, nursery)
    cache.prefetch(reference)
    source.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert reader.outcome == b"chunk"
    assert source.asked == [reference.id]


async def test_reading_ahead_goes_on_after_errors_and_keeps_none(
    cache: ChunkCache, source: Source
) -> None:
    references = [source.add(bytes([at])) for at in range(10)]
    blocks = dict(source.blocks)
    source.blocks.clear()
    for reference in references:
        cache.prefetch(reference)
        await trio.testing.wait_all_tasks_blocked()
    assert len(source.asked) == 10
    source.blocks = blocks
    assert await cache.get(references[0]) == b"\x00"
    cache.prefetch(references[1])
    await trio.testing.wait_all_tasks_blocked()
    assert source.asked[-1] == references[1].id


async def test_no_more_is_read_ahead_than_may_be(cache: ChunkCache, source: Source) -> None:
    source.close()
    for at in range(200):
        cache.prefetch(source.add(b"%d" % at))
    await trio.testing.wait_all_tasks_blocked()
    assert source.most == 32
    source.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert 16 < len(source.asked) < 100


async def test_what_a_closed_file_wanted_ahead_is_given_up(
    cache: ChunkCache, source: Source
) -> None:
    source.close()
    reading = Reading()
    references = [source.add(b"%d" % at) for at in range(50)]
    for reference in references:
        cache.prefetch(reference, reading=reading)
    await trio.testing.wait_all_tasks_blocked()
    assert source.waiting == 32
    reading.give_up()
    await trio.testing.wait_all_tasks_blocked()
    assert source.waiting == 0
    source.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert len(source.asked) == 32
    assert await cache.get(references[0]) == b"0"


async def test_what_another_reader_wants_ahead_as_well_goes_on(
    cache: ChunkCache, source: Source
) -> None:
    source.close()
    first, second = Reading(), Reading()
    reference = source.add(b"chunk")
    cache.prefetch(reference, reading=first)
    cache.prefetch(reference, reading=second)
    await trio.testing.wait_all_tasks_blocked()
    first.give_up()
    await trio.testing.wait_all_tasks_blocked()
    assert source.waiting == 1
    second.give_up()
    await trio.testing.wait_all_tasks_blocked()
    assert source.waiting == 0


async def test_what_somebody_waits_for_is_not_given_up(
    cache: ChunkCache, source: Source, nursery: trio.Nursery
) -> None:
    source.close()
    reading = Reading()
    reference = source.add(b"chunk")
    cache.prefetch(reference, reading=reading)
    await trio.testing.wait_all_tasks_blocked()
    (reader,) = await _waiting_readers(1, cache, reference, nursery)
    reading.give_up()
    source.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert reader.outcome == b"chunk"
    assert source.asked == [reference.id]


async def test_what_was_given_up_can_be_wanted_ahead_again(
    cache: ChunkCache, source: Source
) -> None:
    source.close()
    reading = Reading()
    reference = source.add(b"chunk")
    cache.prefetch(reference, reading=reading)
    await trio.testing.wait_all_tasks_blocked()
    reading.give_up()
    await trio.testing.wait_all_tasks_blocked()
    source.gate.set()
    cache.prefetch(reference, reading=reading)
    await trio.testing.wait_all_tasks_blocked()
    source.close()
    assert await cache.get(reference) == b"chunk"
    assert not reading.ahead


async def test_as_much_is_read_ahead_as_the_source_says_within_the_cache(
    cache: ChunkCache, source: Source
) -> None:
    assert cache.ahead_bytes(None, 5) == 5
    source.hint = 1000
    assert cache.ahead_bytes(None, 5) == 1000
    source.hint = 1 << 40
    assert cache.ahead_bytes(None, 5) == chunks.MAX_AHEAD_BYTES < chunks._CACHE_BYTES


class OnThisMachine:
    """Reads blocks of the source in any thread, when the gate is open.

    `read` lists what was asked for; nothing of what is in `lost` is found. All is here, or what is
    in `has`.
    """

    def __init__(self, source: Source) -> None:
        self.read: list[StoredId] = []
        self.lost: set[StoredId] = set()
        self.has: set[StoredId] | None = None
        self.gate = threading.Event()
        self.gate.set()
        self._reads = threading.Semaphore(0)
        self._source = source

    def __call__(self, block_id: StoredId) -> bytes:
        assert self.gate.wait(60)
        self.read.append(block_id)
        self._reads.release()
        if block_id in self.lost:
            raise BlockNotFound(str(block_id))
        assert isinstance(block_id, BlockId)
        return self._source.blocks[block_id]

    @asynccontextmanager
    async def cache(self) -> AsyncIterator[ChunkCache]:
        cache = ChunkCache(
            self._source, lambda each: self.has is None or each in self.has, read_here=self
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.run)
            try:
                yield cache
            finally:
                self.gate.set()
                nursery.cancel_scope.cancel()

    async def has_read(self, blocks: int) -> None:
        for _ in range(blocks):
            assert await trio.to_thread.run_sync(self._reads.acquire, True, 60)


async def test_chunks_of_this_machine_are_read_ahead_past_the_source(source: Source) -> None:
    here = OnThisMachine(source)
    references = [source.add(b"%d" % at) for at in range(40)]
    async with here.cache() as cache:
        for reference in references:
            cache.prefetch(reference)
        await here.has_read(40)
        found = [await cache.get(reference) for reference in references]
    assert found == [b"%d" % at for at in range(40)]
    assert sorted(here.read) == sorted(reference.id for reference in references)
    assert source.asked == []


async def test_what_cannot_be_read_ahead_is_left_to_its_reader(source: Source) -> None:
    here = OnThisMachine(source)
    references = [source.add(b"%d" % at) for at in range(8)]
    here.lost = {references[3].id}
    async with here.cache() as cache:
        for reference in references:
            cache.prefetch(reference)
        await here.has_read(8)
        found = [await cache.get(reference) for reference in references]
    assert found == [b"%d" % at for at in range(8)]
    assert source.asked == [references[3].id]


async def test_a_reader_does_not_wait_behind_what_is_read_ahead(source: Source) -> None:
    here = OnThisMachine(source)
    here.gate.clear()
    references = [source.add(b"%d" % at) for at in range(40)]
    async with here.cache() as cache:
        for reference in references:
            cache.prefetch(reference)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(60):
            assert await cache.get(references[-1]) == b"39"
        here.gate.set()
        await here.has_read(39)
    assert source.asked == [references[-1].id]
    assert references[-1].id not in here.read


async def test_what_comes_here_while_it_is_loaded_from_elsewhere_is_kept_once(
    source: Source,
) -> None:
    here = OnThisMachine(source)
    references = [source.add(b"%d" % at) for at in range(chunks._AHEAD_TASKS)]
    late = source.add(b"late")
    others = [source.add(b"other %d" % at) for at in range(chunks._HERE_TASKS * chunks._HOP_CHUNKS)]
    source.close()
    here.gate.clear()
    async with here.cache() as cache:
        here.has = {reference.id for reference in others}
        for reference in (*references, late):  # the late one waits behind as many as can be loaded
            cache.prefetch(reference)
            await trio.testing.wait_all_tasks_blocked()
        for reference in others:
            cache.prefetch(reference)
        await trio.testing.wait_all_tasks_blocked()
        here.has.add(late.id)
        cache.prefetch(late)
        source.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        here.gate.set()
        await here.has_read(len(others))
        for _ in range(2):
            assert await cache.get(late) == b"late"
        assert cache._bytes == sum(map(len, cache._chunks.values()))
    assert source.asked.count(late.id) + here.read.count(late.id) == 1

"""Turning ranges of files into sealed chunks, in worker threads.

A batch of ranges is read, cut, sealed and stored in one hop to a thread. What comes out is given
to the range's owner in the event loop, who checks that the range still shows the same pieces.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio
from typing_extensions import Buffer

from libernet.blocks.chunking import Chunker
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import Sealer
from libernet.blocks.store import Store
from libernet.fs.content import Extent, Piece
from libernet.fs.datalog import DataLog
from libernet.fs.pieces import PieceReader

_log = logging.getLogger(__name__)

SMALL_CHUNK_BYTES = 256 * 1024
"""The shortest chunk that cutting by content makes; shorter ones were ended by a file's end."""

_SMALL_HOLE_BYTES = 64 * 1024  # shorter holes are sealed as zeros rather than cut a chunk in two
_WINDOW_BYTES = 8 * 1024 * 1024  # what a worker holds of a range at one time
_EARLY_BLOCKS = 1000
"""The last checkpoint of 10,000 small files took as long as a third of reading them."""

_WORKERS = 3  # two cores, and one more for the time that a worker waits for the disk


@dataclass(frozen=True, slots=True)
class SealedChunk:
    """A chunk that is in the store, and how many bytes of a file it holds."""

    reference: Reference
    length: int

    def extent(self, offset: int) -> Extent:
        """Return the extent that shows the chunk at *offset* of a file."""
        return Extent(offset, self.length, Piece(self.length, chunk=self.reference))


@dataclass(slots=True, eq=False)
class RangeToSeal:
    """A range of a file as it was when somebody wanted it sealed.

    `one_chunk` when it is to be exactly one chunk. After the work either `chunks` covers
    the range or `error` says why not.
    """

    owner: object
    start: int
    end: int
    extents: list[Extent]
    one_chunk: bool
    chunks: list[SealedChunk] = field(default_factory=list)
    error: Exception | None = None

    def sealed_extents(self) -> list[Extent]:
        """Return the extents that stand for the range once it is sealed."""
        extents, offset = [], self.start
        for chunk in self.chunks:
            extents.append(chunk.extent(offset))
            offset += chunk.length
        return extents


def ranges_to_seal(extents: Sequence[Extent], size: int) -> list[tuple[int, int]]:
    """Return the ranges of a file of *size* bytes that are not sealed as they should be.

    A file that fits in one chunk is one chunk. Of a larger file every run of extents that are no
    whole chunks is due, with a short chunk before it, so that appending leaves no row of crumbs.
    """
    if size <= MAX_CHUNK_BYTES:
        is_sealed = not extents or (
            len(extents) == 1 and extents[0].is_whole_chunk and extents[0].length == size
        )
        return [] if is_sealed else [(0, size)]
    ranges: list[tuple[int, int]] = []
    previous: Extent | None = None
    for extent in extents:
        if not extent.is_whole_chunk:
            start = extent.offset
            if ranges and start - ranges[-1][1] < _SMALL_HOLE_BYTES:
                start = ranges.pop()[0]
            elif previous and previous.end == start and previous.length < SMALL_CHUNK_BYTES:
                start = previous.offset
            ranges.append((start, extent.end))
        previous = extent
    return ranges


class ChunkMaker:
    """Cut ranges of files into chunks, seal and store them; any thread may."""

    def __init__(self, sealer: Sealer, chunker: Chunker, store: Store, pieces: PieceReader) -> None:
        self._sealer = sealer
        self._chunker = chunker
        self._store = store
        self._pieces = pieces

    def store(self, plaintext: Buffer) -> Reference:
        """Seal at most MAX_CHUNK_BYTES as one chunk; durable after the store's next flush."""
        reference, block = self._sealer.seal(plaintext)
        self._store.put(reference.id, block)
        return reference

    def has(self, reference: Reference) -> bool:
        """Say whether a block is one's own still; a damaged one that was found is not."""
        return self._store.is_own(reference.id)

    def flush_early(self) -> None:
        """Have blocks become durable when many wait, so that a checkpoint has less to wait for."""
        if self._store.queued_blocks >= _EARLY_BLOCKS:
            self._store.flush()

    def store_whole(self, extents: Sequence[Extent], size: int) -> Iterable[SealedChunk]:
        """Return the chunks of a whole file of *size* bytes: a small file is one chunk."""
        if size > MAX_CHUNK_BYTES:
            return self.store_range(extents, 0, size)
        return [self.store_one(extents, 0, size)]

    def store_one(self, extents: Sequence[Extent], start: int, end: int) -> SealedChunk:
        """Return the one chunk that holds a range."""
        return SealedChunk(self.store(self._pieces.range(extents, start, end)), end - start)

    def store_range(self, extents: Sequence[Extent], start: int, end: int) -> Iterator[SealedChunk]:
        """Yield the chunks of a range cut by content."""
        return self.store_read(partial(self._pieces.range, extents), start, end)

    def store_read(
        self, read: Callable[[int, int], Buffer], start: int, end: int
    ) -> Iterator[SealedChunk]:
        """Yield the chunks, cut by content, of what *read* returns between two offsets.

        A window of it is held at a time.
        """
        while start < end:
            window_end = min(end, start + _WINDOW_BYTES)
            content = memoryview(read(start, window_end))
            cut = 0
            for next_cut in self._chunker.cuts(content, final=window_end == end):
                yield SealedChunk(self.store(content[cut:next_cut]), next_cut - cut)
                cut = next_cut
            start += cut


class SealingWorkers:
    """Seal batches of ranges in threads.

    State
      _open     batches not finished yet, in the order in which they came
    Tasks
      run() holds _WORKERS tasks that take batches from an unbounded channel: what waits there is
      bounded by whoever bounds the unsealed bytes in memory.
    """

    def __init__(self, maker: ChunkMaker, log: DataLog) -> None:
        self._maker = maker
        self._log = log
        self._send, self._receive = trio.open_memory_channel[_Batch](float("inf"))
        self._open: dict[_Batch, None] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a batch is on its way."""
        return bool(self._open)

    def submit(self, ranges: list[RangeToSeal], owner: "SealOwner") -> None:
        """Have *ranges* sealed; *owner* hears of the outcome in the event loop."""
        batch = _Batch(ranges, owner)
        self._open[batch] = None
        self._send.send_nowait(batch)

    async def drain(self) -> None:
        """Return when all that was submitted before has been done."""
        for batch in list(self._open):
            await batch.done.wait()

    async def wait_for_one(self) -> None:
        """Return when the oldest batch on its way has been done."""
        for batch in self._open:
            await batch.done.wait()
            return

    async def run(self) -> None:
        """Work until cancelled."""
        limiter = trio.CapacityLimiter(_WORKERS)
        async with trio.open_nursery() as nursery:
            for _ in range(_WORKERS):
                nursery.start_soon(self._work, limiter)

    async def _work(self, limiter: trio.CapacityLimiter) -> None:
        async for batch in self._receive.clone():
            with self._log.lease():
                await trio.to_thread.run_sync(self._seal, batch, limiter=limiter)
            del self._open[batch]
            batch.owner.sealed(batch.ranges)
            batch.done.set()

    def _seal(self, batch: "_Batch") -> None:
        for wanted in batch.ranges:
            try:
                wanted.chunks.extend(self._chunks(wanted))
            except Exception as exc:  # noqa: BLE001 - its owner tells, and keeps the bytes
                wanted.chunks.clear()
                wanted.error = exc

    def _chunks(self, wanted: RangeToSeal) -> Iterable[SealedChunk]:
        if wanted.one_chunk:
            return [self._maker.store_one(wanted.extents, wanted.start, wanted.end)]
        return self._maker.store_range(wanted.extents, wanted.start, wanted.end)


class SealOwner:
    """Who has ranges sealed."""

    def sealed(self, ranges: list[RangeToSeal]) -> None:
        """Take the outcome, in the event loop, without waiting."""
        raise NotImplementedError


@dataclass(slots=True, eq=False)
class _Batch:
    ranges: list[RangeToSeal]
    owner: SealOwner
    done: trio.Event = field(default_factory=trio.Event)

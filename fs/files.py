"""The contents of files: written in memory, sealed by workers, read from wherever they are.

A write goes to memory. A long run of writes is cut into chunks at once; what a closed file still
has unsealed is sealed when enough of it has gathered, or before a timed checkpoint. Whatever a
checkpoint finds unsealed goes to the data log.
"""

import errno
import logging
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise

import trio

from libernet.blocks.chunking import Chunker
from libernet.blocks.errors import LibernetError
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.fs.chunks import ChunkCache
from libernet.fs.content import ContentMap, Extent, Piece, clipped
from libernet.fs.inode import Inode
from libernet.fs.journal import Batch
from libernet.fs.open_content import FrozenContents, OpenContent
from libernet.fs.overlay import Overlay
from libernet.fs.sealing import RangeToSeal, SealingWorkers, SealOwner, ranges_to_seal
from libernet.fs.space import Space
from libernet.fs.storage import Storage
from libernet.fs.tree import Tree, os_error

_log = logging.getLogger(__name__)

_STREAM_BYTES = 3 * 1024 * 1024  # a run of writes this long is cut: at least two chunks come out
_RESTING_BYTES = 4 * 1024 * 1024  # unsealed bytes of closed files that start sealing
_RESTING_FILES = 1000
_BATCH_BYTES = 1024 * 1024  # work for one hop to a thread (facts: a hop costs 0.2 ms)
_PENDING_BYTES = 48 * 1024 * 1024  # unsealed bytes in memory at which writers wait
_SPARSE_BYTES = 64 * 1024  # files at rest from which stat looks for holes, which takes 20 us
_REST_SECONDS = 10.0  # an open file that nobody wrote to for so long counts as resting


class Files(SealOwner):
    """Open files by inode, and everything that happens to their bytes.

    State
      _contents       open contents by inode; a closed one stays until it is sealed and committed
      _resting        closed ones with something unsealed
      _resting_bytes  about how much they have in memory
      _memory_bytes   sum of the maps' memory_bytes: what only memory has
    Everything but the awaits runs in the event loop's thread without a break, so a map and its
    inode's size always agree.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        overlay: Overlay,
        storage: Storage,
        chunker: Chunker,
        workers: SealingWorkers,
        chunks: ChunkCache,
        space: Space,
    ) -> None:
        self._tree = tree
        self._overlay = overlay
        self._reader = storage.reader
        self._log = storage.log
        self._chunker = chunker
        self._workers = workers
        self._chunks = chunks
        self._space = space
        self._contents: dict[int, OpenContent] = {}
        self._resting: set[OpenContent] = set()
        self._resting_bytes = 0
        self._memory_bytes = 0
        self.checkpoint: Callable[[], Awaitable[None]]

    @property
    def is_dirty(self) -> bool:
        """Whether extents changed since the last freeze."""
        return any(content.map.touched for content in self._contents.values())

    @property
    def memory_bytes(self) -> int:
        """How many bytes of files only memory has."""
        return self._memory_bytes

    def stored_bytes(self, inode: Inode) -> int:
        """Return how much of a file is in no hole; of a small one that is at rest, all of it."""
        content = self._contents.get(inode.ino)
        if content is not None:
            return content.map.stored_bytes
        if inode.size < _SPARSE_BYTES:
            return inode.size
        return self._reader.stored_bytes(inode.ino)

    def is_committed(self, ino: int) -> bool:
        """Return whether all of a file's content is as the journal has it."""
        content = self._contents.get(ino)
        return content is None or not (content.map.touched or content.frozen)

    def pending(self) -> tuple[int, int]:
        """Return how many files have bytes that are not durable yet, and how many bytes."""
        files = sum(1 for content in self._contents.values() if content.map.memory_bytes)
        return files, self._memory_bytes

    def adopt_unsealed(self) -> None:
        """Take up what the last process left in the data log, to seal it."""
        for ino in self._reader.unsealed_files():
            content = self._content(ino)
            content.unsealed = True
            self._resting.add(content)

    def open(self, ino: int) -> OpenContent:
        """Return the file's content for a handle; release() ends it."""
        content = self._content(ino)
        content.handles += 1
        self._resting.discard(content)
        return content

    def release(self, content: OpenContent) -> None:
        """End a handle's use of the content."""
        content.handles -= 1
        if content.handles:
            return
        if content.unsealed and self._contents.get(content.ino) is content:
            self._resting.add(content)
            self._resting_bytes += content.map.memory_bytes
            if self._resting_bytes > _RESTING_BYTES or len(self._resting) > _RESTING_FILES:
                self.seal_resting()
        self._forget_if_done(content)

    def dropped(self, ino: int) -> None:
        """Forget the content of a file that is no more."""
        content = self._contents.pop(ino, None)
        if content is not None:
            self._resting.discard(content)
            self._memory_bytes -= content.map.memory_bytes

    async def write(self, content: OpenContent, offset: int, data: bytes) -> Inode:
        """Put *data* at *offset*; waits while too much is not sealed yet. ENOSPC when full."""
        if not data:
            return self._tree.inode(content.ino)
        if self._memory_bytes > _PENDING_BYTES:
            await self._relieve()
        self._space.take(len(data), self._memory_bytes)
        before = content.map.memory_bytes
        extent = content.map.write(offset, data)
        content.unsealed = True
        content.written = trio.current_time()
        if extent.piece.growing and extent.piece.length >= _STREAM_BYTES:
            self._cut_stream(content, extent)
        self._memory_bytes += content.map.memory_bytes - before
        inode = self._tree.inode(content.ino)
        return self._tree.set_size(content.ino, max(inode.size, offset + len(data)))

    async def truncate(self, ino: int, size: int) -> Inode:
        """Let the file have *size* bytes, zeros beyond what it had."""
        content = self._content(ino)
        before = content.map.memory_bytes
        if size < self._tree.inode(ino).size:
            content.map.truncate(size)
        self._memory_bytes += content.map.memory_bytes - before
        content.unsealed = True
        inode = self._tree.set_size(ino, size)
        if not content.handles:
            self._resting.add(content)
        return inode

    def put_chunks(self, ino: int, size: int, extents: list[Extent]) -> Inode:
        """Let a file of *size* bytes consist of chunks that are in the store, and of holes."""
        content = self._content(ino)
        before = content.map.memory_bytes
        content.map.replace(0, max(size, self._tree.inode(ino).size), extents)
        self._memory_bytes += content.map.memory_bytes - before
        content.unsealed = False
        self._resting.discard(content)
        inode = self._tree.set_size(ino, size)
        self._forget_if_done(content)
        return inode

    async def read(self, content: OpenContent, offset: int, size: int) -> bytes | memoryview:
        """Return up to *size* bytes at *offset*, fewer only at the file's end."""
        end = min(offset + size, self._tree.inode(content.ino).size)
        if offset >= end:
            return b""
        extents = content.map.covering(offset, end)
        if len(extents) == 1 and extents[0].length == end - offset:
            return await self._bytes_of(extents[0])
        found: list[bytes | memoryview] = []
        at = offset
        with self._log.lease():
            for extent in extents:
                found += (bytes(extent.offset - at), await self._bytes_of(extent))
                at = extent.end
        found.append(bytes(end - at))
        return b"".join(found)

    def read_ahead(self, content: OpenContent, offset: int, length: int) -> None:
        """Start to unseal the chunks of a range that a reader will come to next."""
        for extent in content.map.covering(offset, offset + length):
            if extent.piece.chunk is not None:
                self._chunks.prefetch(extent.piece.chunk)

    def seal_resting(self, *, everything: bool = False) -> None:
        """Have sealed what closed files, and open ones that rest, still have unsealed."""
        now = trio.current_time()
        resting = [
            content
            for content in self._contents.values()
            if content.unsealed
            and (everything or not content.handles or now - content.written > _REST_SECONDS)
        ]
        self._resting.clear()
        self._resting_bytes = 0
        batch: list[RangeToSeal] = []
        batch_bytes = 0
        for content in resting:
            for wanted in self._plan(content):
                batch.append(wanted)
                batch_bytes += wanted.end - wanted.start
                if batch_bytes >= _BATCH_BYTES:
                    self._workers.submit(batch, self)
                    batch, batch_bytes = [], 0
            self._forget_if_done(content)
        if batch:
            self._workers.submit(batch, self)

    async def seal_all(self) -> None:
        """Return when everything that was unsealed has been tried to seal."""
        self.seal_resting(everything=True)
        await self._workers.drain()

    def sealed(self, ranges: Iterable[RangeToSeal]) -> None:
        """Put chunks in the place of what still shows what was sealed."""
        for done in ranges:
            content = done.owner
            assert isinstance(content, OpenContent)
            content.sealing -= 1
            if self._contents.get(content.ino) is content:
                if done.error is not None:
                    _tell(content, done.error)
                if not self._take_chunks(content, done):
                    content.unsealed = True  # by a writer, or by chunks for a part of it
            self._forget_if_done(content)

    def freeze(self, batch: Batch) -> FrozenContents:
        """Add what changed in contents to *batch*; return what must be durable before it."""
        frozen = FrozenContents()
        for content in self._contents.values():
            if not content.map.touched:
                continue
            present, gone = content.map.freeze()
            content.frozen = True
            frozen.contents.append(content)
            batch.extents.extend((content.ino, extent) for extent in present)
            batch.extents_gone.extend((content.ino, offset) for offset in gone)
            frozen.pieces.extend(
                (content.ino, extent) for extent in present if extent.piece.buffer is not None
            )
        return frozen

    def committed(self, frozen: FrozenContents) -> None:
        """Let go of memory that the data log stands in for now."""
        for piece, place in frozen.places.items():
            piece.became_durable(place)
        for content in frozen.contents:
            content.frozen = False
            if self._contents.get(content.ino) is content:
                before = content.map.memory_bytes
                content.map.recount()
                self._memory_bytes += content.map.memory_bytes - before
                self._forget_if_done(content)

    async def _relieve(self) -> None:
        """Wait until enough of the unsealed bytes is sealed or durable in the log."""
        self.seal_resting()
        while self._memory_bytes > _PENDING_BYTES:
            if self._space.is_full:
                raise os_error(errno.ENOSPC)
            if self._workers.is_busy:
                await self._workers.wait_for_one()
            else:
                await self.checkpoint()

    def _content(self, ino: int) -> OpenContent:
        content = self._contents.get(ino)
        if content is None:
            # Asking for what cannot be there was a seventh of the loop's time in a first backup.
            extents = [] if self._overlay.is_new(ino) else self._reader.extents(ino)
            content = OpenContent(ino, ContentMap(extents))
            self._contents[ino] = content
        return content

    def _forget_if_done(self, content: OpenContent) -> None:
        """Drop a closed content when the journal knows all of it, and nobody works on it."""
        is_in_use = content.handles or content.unsealed or content.sealing or content.frozen
        if not (is_in_use or content.map.touched):
            self._contents.pop(content.ino, None)

    def _take_chunks(self, content: OpenContent, done: RangeToSeal) -> bool:
        """Take those chunks whose part of the file is as it was; return whether that is all.

        Of a file that somebody writes to all the time, all that rests is sealed so, and leaves the
        data log.
        """
        size = self._tree.inode(content.ino).size
        before = content.map.memory_bytes
        is_all = done.error is None
        for chunk in done.sealed_extents():
            # A hole at the end may have become shorter without a change to the extents.
            is_there = chunk.end <= size
            shown = content.map.covering(chunk.offset, chunk.end)
            if is_there and shown == clipped(done.extents, chunk.offset, chunk.end):
                content.map.replace(chunk.offset, chunk.end, [chunk])
            else:
                is_all = False
        self._memory_bytes += content.map.memory_bytes - before
        return is_all

    def _cut_stream(self, content: OpenContent, extent: Extent) -> None:
        """Send the complete chunks of a long run of writes to the workers."""
        piece = extent.piece
        assert isinstance(piece.buffer, bytearray)
        written = memoryview(piece.buffer)[extent.skip :]
        cuts = self._chunker.cuts(written, final=False)
        if not cuts:
            return
        piece.growing = False
        parts = [
            _in_memory(extent.offset + begin, written[begin:end])
            for begin, end in pairwise([0, *cuts])
        ]
        # What is left goes on growing, in a buffer of its own.
        rest = bytearray(written[cuts[-1] :])
        left = [_in_memory(extent.offset + cuts[-1], rest)] if rest else []
        content.map.replace(extent.offset, extent.end, parts + left)
        content.sealing += len(parts)
        self._workers.submit(
            [RangeToSeal(content, part.offset, part.end, [part], True) for part in parts], self
        )

    def _plan(self, content: OpenContent) -> list[RangeToSeal]:
        """Return the content's ranges to seal; it counts as sealed from now on."""
        content.unsealed = False
        size = self._tree.inode(content.ino).size
        planned = []
        for start, end in ranges_to_seal(list(content.map), size):
            extents = content.map.covering(start, end)
            for extent in extents:
                extent.piece.growing = False
            one_chunk = size <= MAX_CHUNK_BYTES
            planned.append(RangeToSeal(content, start, end, extents, one_chunk))
        content.sealing += len(planned)
        return planned

    async def _bytes_of(self, extent: Extent) -> bytes | memoryview:
        piece = extent.piece
        if piece.chunk is not None:
            chunk = await self._chunks.get(piece.chunk)
            return memoryview(chunk)[extent.skip : extent.skip + extent.length]
        if piece.buffer is not None:
            # A copy: a view would keep the piece from growing.
            return bytes(memoryview(piece.buffer)[extent.skip : extent.skip + extent.length])
        assert piece.log is not None
        return self._log.read(piece.log, extent.skip, extent.length)


def _in_memory(offset: int, content: bytearray | memoryview) -> Extent:
    return Extent(offset, len(content), Piece(len(content), buffer=content))


def _tell(content: OpenContent, error: Exception) -> None:
    is_foreseen = isinstance(error, LibernetError)
    exc_info = None if is_foreseen else error
    _log.error("sealing inode %d failed: %s", content.ino, error, exc_info=exc_info)

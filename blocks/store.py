"""The store: every block that this node keeps, durable once `flush` has returned.

Invariants:

1. A row of the index speaks of bytes that are on the disk, under their name, and hash to the id.
2. A file under blocks/xx/ was completely on the disk before it got its name.
3. Nothing is served that does not hash to the id it was asked for by.
4. A block that is put can be read at once, and goes on being readable while it becomes durable.

The write order that keeps them, through kill -9 and power cut at any point:

    large block   write incoming/ID.n · fsync it · rename to blocks/xx/ID · queue its row
    small block   queue its row and its bytes in memory
    flush         fsync the fan-out folders of queued large blocks · one transaction with all queued
                  rows and bytes · COMMIT with synchronous=FULL · only then drop them from the queue
    damage        move the file to corrupt/ (copy a small block there) · delete its row

What a crash can leave: a file in incoming/, removed at the next start, and a file under blocks/xx/
without a row, which nothing reads and the next put of that id writes anew. A crash amid "damage"
leaves a row without a file: the block is not found, and the next put of it makes it whole.
"""

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Self, TypeGuard

from typing_extensions import Buffer

from libernet.blocks.errors import (
    BlockCorrupt,
    BlockNotFound,
    BlockTooLarge,
    StoreError,
)
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.blocks.store_files import BlockFiles, store_error, sync_folder
from libernet.blocks.store_index import BlockClass, BlockIndex, Entry, StoreTotals

SMALL_BLOCK_BYTES = 32 * 1024
"""Largest block kept in the index: below that a file of its own costs more than its bytes, and a
hop to another thread more than reading it."""

_log = logging.getLogger(__name__)


class Store:
    """The blocks in *folder*, between `with` and its end, for any number of threads.

    State: `_queue`, the entries put and not yet committed, guarded by `_queue_lock`; an entry
    leaves it only after its commit, so who looks there first and in the index then misses nothing.
    `_puts` and `_committed_puts` count entries ever queued, and of these the durable ones.
    `_commit_lock` lets one thread at a time write to the index; it is taken before `_queue_lock`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = BlockFiles(folder)
        self._index = BlockIndex(folder / "index.sqlite")
        self._queue: dict[BlockId, Entry] = {}
        self._queued_bytes = 0
        self._puts = 0
        self._committed_puts = 0
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()

    def __enter__(self) -> Self:
        """Open the store, or make it where there is none.

        Raises StoreVersion if a newer program wrote it, StoreFull or StoreError if it cannot be.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self._folder.parent)  # also if it was there: its maker may have died here
            self._index.open()
            self._files.prepare()
        except OSError as exc:
            self._index.close()
            raise store_error(exc, self._folder) from exc
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Flush and close; what cannot be made durable is raised after closing."""
        try:
            self.flush()
        finally:
            self._index.close()

    @property
    def queued_bytes(self) -> int:
        """How much memory the small blocks take that wait for the next flush."""
        return self._queued_bytes

    def put(self, block_id: BlockId, block: Buffer) -> None:
        """Keep a block of one's own, durably after the next `flush`.

        *block_id* must be the id of *block*: the caller has just computed it. A large block is
        written and fsynced here and now, so several threads should put at the same time; one that
        is already here is not written again. Raises StoreFull, leaving nothing behind, and
        BlockTooLarge.
        """
        size_bytes = memoryview(block).nbytes
        if size_bytes > MAX_BLOCK_BYTES:
            raise BlockTooLarge(
                f"block {block_id} has {size_bytes} bytes, the limit is {MAX_BLOCK_BYTES}"
            )
        if block_id in self._queue:
            return
        if size_bytes <= SMALL_BLOCK_BYTES:
            self._put_small(block_id, bytes(block))
        else:
            self._put_large(block_id, block, size_bytes)

    def _put_small(self, block_id: BlockId, block: bytes) -> None:
        known = self._index.find(block_id)
        # comparing costs less than 10 us, and heals what has gone bad since
        if known is not None and known.content == block:
            return
        with self._queue_lock:
            self._enqueue(Entry(block_id, BlockClass.OWN, len(block), False, block))

    def _put_large(self, block_id: BlockId, block: Buffer, size_bytes: int) -> None:
        try:
            if self._index.size(block_id) == size_bytes and self._files.holds(block_id, size_bytes):
                return
            temporary = self._files.write(block_id, block)
            with self._queue_lock:
                self._files.name(temporary, block_id)
                self._enqueue(Entry(block_id, BlockClass.OWN, size_bytes, True))
        except OSError as exc:
            raise store_error(exc, self._folder) from exc

    def _enqueue(self, entry: Entry) -> None:
        if entry.id in self._queue:
            return
        self._queue[entry.id] = entry
        self._queued_bytes += len(entry.content or b"")
        self._puts += 1

    def flush(self) -> None:
        """Return when every block is durable whose `put` returned before this was called.

        Threads that flush at the same time share commits. Raises StoreFull or StoreError with
        everything still queued, so that a later flush can succeed.
        """
        with self._queue_lock:
            wanted = self._puts
        with self._commit_lock:
            if self._committed_puts < wanted:
                self._commit_queue()

    def _commit_queue(self) -> None:
        with self._queue_lock:
            entries = list(self._queue.values())
            puts = self._puts
        try:
            self._files.sync_names(entry.id for entry in entries if entry.in_file)
        except OSError as exc:
            raise store_error(exc, self._folder) from exc
        self._index.replace(entries)
        with self._queue_lock:
            for entry in entries:
                self._dequeue(entry.id)
            self._committed_puts = puts

    def _dequeue(self, block_id: BlockId) -> None:
        entry = self._queue.pop(block_id, None)
        if entry is not None:
            self._queued_bytes -= len(entry.content or b"")

    def get(self, block_id: BlockId) -> bytes:
        """Return a block, checked against its id.

        Raises BlockNotFound if it is not here, and BlockCorrupt if it was damaged: it is then set
        aside and forgotten, so that it can be fetched and put again. For a damaged block this may
        wait for a commit that is under way.
        """
        entry = self._entry(block_id)
        if entry is None:
            raise BlockNotFound(f"block {block_id} is not in the store")
        block = self._load(entry)
        if _is_block(block, block_id):
            return block
        return self._look_again(block_id)

    def _entry(self, block_id: BlockId) -> Entry | None:
        return self._queue.get(block_id) or self._index.find(block_id)

    def _load(self, entry: Entry) -> bytes | None:
        """Return the bytes as they are stored, None if only the entry is left."""
        if not entry.in_file:
            return entry.content
        try:
            return self._files.read(entry.id, entry.size_bytes)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise store_error(exc, self._files.path(entry.id)) from exc

    def _look_again(self, block_id: BlockId) -> bytes:
        """Set a block aside that is damaged, or return it if it no longer is.

        Both locks are held: another thread may have set it aside since the first look, and a third
        have put it anew, which must not be undone.
        """
        with self._commit_lock, self._queue_lock:
            entry = self._entry(block_id)
            if entry is not None:
                block = self._load(entry)
                if _is_block(block, block_id):
                    return block
                if entry.in_file and block is None:
                    _log.warning(
                        "a block is missing, its file %s is gone", self._files.path(block_id)
                    )
                    raise BlockNotFound(f"the file of block {block_id} is missing")
                self._set_aside(entry, block)
        raise BlockCorrupt(f"block {block_id} was damaged in the store and has been set aside")

    def _set_aside(self, entry: Entry, block: bytes | None) -> None:
        _log.warning("block %s is damaged; it is set aside in %s", entry.id, self._folder)
        try:
            if entry.in_file:
                self._files.set_aside(entry.id)
            elif block is not None:
                self._files.set_aside_bytes(entry.id, block)
            self._index.remove(entry.id)
        except (OSError, StoreError) as exc:
            # A put heals it all the same: it misses the file, or compares a small block's bytes.
            _log.warning("the damaged block %s could not be forgotten: %s", entry.id, exc)
        self._dequeue(entry.id)

    def __contains__(self, block_id: BlockId) -> bool:
        return self.size(block_id) is not None

    def size(self, block_id: BlockId) -> int | None:
        """Return how many bytes a block has, or None if it is not here; an index look-up."""
        queued = self._queue.get(block_id)
        return queued.size_bytes if queued is not None else self._index.size(block_id)

    def is_small(self, block_id: BlockId) -> bool:
        """Say whether a block is here and quicker to read than a hop to another thread takes."""
        size_bytes = self.size(block_id)
        return size_bytes is not None and size_bytes <= SMALL_BLOCK_BYTES

    def totals(self) -> StoreTotals:
        """Count what is durable: a scan of the index, 0.2 s per million blocks."""
        return self._index.totals()


def _is_block(block: bytes | None, block_id: BlockId) -> TypeGuard[bytes]:
    return block is not None and BlockId.of(block) == block_id

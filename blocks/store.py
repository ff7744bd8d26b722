"""The store: every block that this node keeps, durable once `flush` has returned.

Invariants:

1. A row of class OWN speaks of bytes that are on the disk, under their name, and hash to the id.
2. A file under blocks/xx/ was completely on the disk before it got its name.
3. Nothing is served that does not hash to the id it was asked for by.
4. A block that is put can be read at once, and goes on being readable while it becomes durable.
5. No row becomes one of a class that is worth less, only rows of classes CACHED and GUEST are
   evicted, and only a collection removes sound ones of class OWN.

The write order that keeps them, through kill -9 and power cut at any point:

    large block   write incoming/ID.n · fsync it · rename to blocks/xx/ID · queue its row
    small block   queue its row and its bytes in memory
    flush         fsync the fan-out folders of queued large blocks · one transaction with all queued
                  rows and bytes · COMMIT with synchronous=FULL · only then drop them from the queue
    damage        move the file to corrupt/ (copy a small block there) · delete its row

Cached blocks, fetched from peers, are worth no fsync: a torn or missing one is not here.

    cached block  write incoming/ID.n, unless small · rename to cached/ID · queue its row
    now one's own as if it were new: written anew, and the row replaced. Only then it counts
    eviction      delete the rows · then the files
    collection    the same with blocks of one's own that nothing needs

What a crash can leave: a file in incoming/, or one under cached/ without a row, both removed at
the next start, and a file under blocks/xx/ without a row, which nothing reads: the next put of that
id writes it anew, the next collection removes it. A crash amid "damage" leaves a row without a
file: the block is not found, and the next put of it makes it whole.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Collection as Ids
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeGuard

from typing_extensions import Buffer

from libernet.blocks.disk import store_error, sync_folder
from libernet.blocks.errors import BlockNotFound, StoreError
from libernet.blocks.holdings import Holdings
from libernet.blocks.ids import StoredId
from libernet.blocks.like_index import LikeIndex
from libernet.blocks.store_cache import CACHE_BYTES, RESERVE_BYTES, BlockCache, CacheLimits
from libernet.blocks.store_check import Finding, Pace, Read, check_blocks, stray_files
from libernet.blocks.store_collection import Collection
from libernet.blocks.store_damage import Damage
from libernet.blocks.store_files import BlockFiles
from libernet.blocks.store_index import BlockClass, BlockIndex, Entry, StoreTotals
from libernet.blocks.store_others import OthersBlocks
from libernet.blocks.store_queue import PutQueue
from libernet.blocks.verification import checked_size, is_block

SMALL_BLOCK_BYTES = 32 * 1024
"""Largest block kept in the index: below that a file of its own costs more than its bytes, and a
hop to another thread more than reading it."""

_MAX_QUEUED_LARGE = 256
"""Large cached blocks that may wait for a flush before the next one does it. A kill loses them."""

_MAX_QUEUED_BYTES = 32 * 1024 * 1024
"""Memory that small blocks may take before the next cached one flushes: somebody forgot to."""

_log = logging.getLogger(__name__)


class Store:
    """The blocks in *folder*, between `with` and its end, for any number of threads.

    State: what its parts hold: files, index, the queue of what is not committed yet, the cache; the
    queue's two locks are everybody's. `like` finds blocks to tell of, `holdings` knows all ids.
    """

    small_bytes: Final = SMALL_BLOCK_BYTES

    def __init__(
        self,
        folder: Path,
        *,
        cache_bytes: int = CACHE_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
        held_bytes: int = 0,
        guest_bytes: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep at most *cache_bytes* of cached blocks, and *reserve_bytes* of the disk free of
        them; at most *held_bytes* for other nodes, and *guest_bytes* for those that do not say who
        they are. *clock* answers in seconds since 1970.
        """
        self._folder = folder
        self._files = BlockFiles(folder)
        self._index = BlockIndex(folder / "index.sqlite")
        self._queue = PutQueue(self._index, self._files)
        limits = CacheLimits(cache_bytes, reserve_bytes)
        self._cache = BlockCache(self._index, self._files, self._queue, limits=limits, clock=clock)
        self._others = OthersBlocks(
            self._index,
            self._queue,
            self._cache,
            limits={BlockClass.HELD: held_bytes, BlockClass.GUEST: guest_bytes},
            find=self._entry,
            load=self._load,
            put=self._put_durable,
            pin=self.pin,
        )
        self.like = LikeIndex(self._index, self._queue)
        self.holdings = Holdings(self._index)
        self._damage = Damage(
            self._index, self._files, self._queue, find=self._entry, load=self._load
        )

    def __enter__(self) -> Self:
        """Open the store, or make it where there is none.

        Raises StoreVersion if a newer program wrote it, StoreFull or StoreError if it cannot be.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self._folder.parent)  # also if it was there: its maker may have died here
            self._index.open()
            self._files.prepare()
            if self._index.was_left_open:
                self._files.remove_cached_unless(self._index.is_cached)
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
            self._cache.write_asked()
        finally:
            self._index.close()

    @property
    def queued_blocks(self) -> int:
        """How many blocks wait for the next flush."""
        return len(self._queue)

    @property
    def queued_bytes(self) -> int:
        """How much memory the small blocks take that wait for the next flush."""
        return self._queue.small_bytes

    def put(self, block_id: StoredId, block: Buffer) -> None:
        """Keep a block of one's own, durably after the next `flush`.

        *block_id* must be the id of *block*: the caller has just computed it. A large block is
        written and fsynced here and now, so several threads should put at the same time; one that
        is already here is compared and, where it is sound, not written again, unless as a cached
        one. Raises StoreFull, leaving nothing behind, and BlockTooLarge.
        """
        entry = _new_entry(block_id, block, BlockClass.OWN)
        self._queue.note(block_id)
        self._put_durable(entry, block)

    def put_held(self, block_id: StoredId, block: Buffer) -> bool:
        """Keep a block for another node, as `put` does one's own; return whether it is kept.

        It is not where *held_bytes* are used up or the disk is nearly full. Raises what `put` does.
        """
        return self._others.put(_new_entry(block_id, block, BlockClass.HELD), block)

    def put_guest(self, block_id: StoredId, block: Buffer) -> bool:
        """Keep a block for somebody unknown, as `put_held` does within *guest_bytes*.

        Where the disk lacks room the guests go first, those that came first before the others.
        """
        return self._others.put(_new_entry(block_id, block, BlockClass.GUEST), block)

    def _put_durable(self, entry: Entry, block: Buffer) -> None:
        queued = self._queue.get(entry.id)
        if queued is not None and queued.is_kept_as(entry):
            return
        if entry.in_file:
            self._put_large(entry, block)
        else:
            self._put_small(entry)

    def _put_small(self, entry: Entry) -> None:
        known = None if entry.id in self._queue.leaving else self._index.find(entry.id)
        # comparing costs less than 10 us, and heals what has gone bad since
        if known is not None and known.content == entry.content and known.is_kept_as(entry):
            return
        with self._queue.lock:
            self._queue.add(entry)

    def _put_large(self, entry: Entry, block: Buffer) -> None:
        block_id = entry.id
        try:
            is_leaving = block_id in self._queue.leaving
            known_bytes = None if is_leaving else self._index.own_size(block_id)
            if known_bytes == entry.size_bytes and self._files.has(block_id, bytes(block)):
                return
            temporary = self._files.write(block_id, block)
            with self._queue.lock:
                self._files.name(temporary, block_id)
                self._queue.add(entry)
                self._files.remove_cached(block_id)
        except OSError as exc:
            raise store_error(exc, self._folder) from exc

    def put_cached(self, block_id: StoredId, block: Buffer) -> bool:
        """Keep a block that a peer sent while there is room for it; return whether it is kept.

        *block_id* must be the id of *block*: the caller has just checked it. A crash may lose it,
        also after a flush. What was asked for least recently goes when it needs room: at once for
        a large block, which is no work for an event loop, with the next flush for small ones (25
        us), which may then be given up after all. If the block is one's own, or was until it was
        found damaged, it is put as such. Raises BlockTooLarge, but never that it cannot be kept.
        """
        size_bytes = checked_size(block_id, block)
        try:
            return self._put_cached(block_id, block, size_bytes)
        except (StoreError, OSError) as exc:
            _log.debug("block %s cannot be cached: %s", block_id, exc)
            return False

    def _put_cached(self, block_id: StoredId, block: Buffer, size_bytes: int) -> bool:
        known = self._entry(block_id)
        if known is not None and known.is_cached and _is_block(self._load(known), block_id):
            self._cache.note_asked(known)
            return True
        if known is not None and not known.is_cached:  # damaged, and not yet found to be
            self._put_durable(_new_entry(block_id, block, known.block_class, known.asked), block)
            return True
        if self._files.was_set_aside(block_id):
            self.put(block_id, block)
            return True
        is_small = size_bytes <= SMALL_BLOCK_BYTES
        if not self._cache.could_take(size_bytes) or not (
            is_small or self._cache.make_room(size_bytes)
        ):
            _log.debug("block %s is not cached, there is no room", block_id)
            return False
        self._enqueue_cached(block_id, block)
        if is_small:
            must_flush = self._queue.small_bytes > _MAX_QUEUED_BYTES
        else:
            must_flush = self._queue.cached >= _MAX_QUEUED_LARGE
        if must_flush:
            self.flush()
        return True

    def _enqueue_cached(self, block_id: StoredId, block: Buffer) -> None:
        entry = _new_entry(block_id, block, BlockClass.CACHED, self._cache.now())
        temporary = self._files.write(block_id, block, durable=False) if entry.in_file else None
        with self._queue.lock:
            if temporary is not None:
                self._files.name(temporary, block_id, cached=True)
            if not self._queue.add(entry).is_cached:  # somebody was faster to put it as one's own
                self._files.remove_cached(block_id)

    def trim(self) -> None:
        """Note when cached blocks were asked for, and evict until they leave the room they must.

        To be called now and then, in a thread: reading writes nothing, and a disk that something
        else fills is not looked at otherwise. Raises StoreFull or StoreError.
        """
        self._cache.write_asked()
        self._cache.trim()

    def lease(self, block_ids: Ids[StoredId]) -> AbstractContextManager[None]:
        """Keep those of these blocks that are here, or come, until the end of the context."""
        return self._cache.lease(block_ids)

    def discard(self, block_id: StoredId) -> bool:
        """Give up a cached block, durably; return False if it is not here, leased or one's own."""
        self._queue.flush()
        return self._cache.discard(block_id)

    def pin(self, block_ids: Iterable[StoredId], owner: str) -> None:
        """Let *owner* pin blocks, durably: here or not yet, they are not given up until `unpin`."""
        with self._queue.commit_lock:
            self._index.pin(block_ids, owner)

    def unpin(self, owner: str) -> None:
        """Forget what *owner* has pinned, durably."""
        with self._queue.commit_lock:
            self._index.unpin(owner)

    def is_pinned(self, block_id: StoredId) -> bool:
        """Say whether anybody has pinned a block."""
        return self._index.is_pinned(block_id)

    def collecting(self) -> AbstractContextManager[Collection]:
        """Begin to collect blocks of one's own that are not needed; see Collection.

        Entering raises StoreError while another collection is under way.
        """
        return Collection(self._folder, self._index, self._files, self._queue, self._cache)

    def check(self, *, read: Read | None = None, pace: Pace | None = None) -> Iterator[Finding]:
        """Yield what is wrong with the store; with *read*, `get` or more, at that *pace*.

        `get` sets blocks aside that are damaged, so that they can be fetched and put again.
        """
        yield from check_blocks(self._index, self._files, read, pace or Pace())
        yield from stray_files(self._index, self._files)

    def is_own(self, block_id: StoredId) -> bool:
        """Say whether the index has committed a block as one's own, which stays."""
        return self._index.own_size(block_id) is not None

    def flush(self) -> None:
        """Return when every block is durable whose `put` returned before this was called.

        Threads that flush at the same time share commits. Raises StoreFull or StoreError with
        one's own blocks still queued, so that a later flush can succeed.
        """
        self._cache.settle()
        self._queue.flush()

    def get(self, block_id: StoredId) -> bytes:
        """Return a block, checked against its id.

        Raises BlockNotFound if it is not here, and BlockCorrupt if it was damaged: it is then set
        aside and forgotten, so that it can be fetched and put again. A damaged cached block just
        is not here. For a damaged block this may wait for a commit that is under way.
        """
        return self.read(self.find(block_id))

    def find(self, block_id: StoredId) -> Entry:
        """Return what the index says of a block, or raise BlockNotFound; one look-up."""
        entry = self._entry(block_id)
        if entry is None:
            raise BlockNotFound(f"block {block_id} is not in the store")
        return entry

    def read(self, entry: Entry) -> bytes:
        """Return the block of what `find` has just found, with the errors of `get`."""
        block = self._load(entry)
        if not _is_block(block, entry.id):
            return self._damage.look_again(entry.id)
        if entry.is_cached:
            self._cache.note_asked(entry)
        return block

    def _entry(self, block_id: StoredId) -> Entry | None:
        queued = self._queue.get(block_id)
        if queued is not None:
            return queued
        return None if block_id in self._queue.leaving else self._index.find(block_id)

    def _load(self, entry: Entry) -> bytes | None:
        """Return the bytes as they are stored, None if only the entry is left."""
        if not entry.in_file:
            return entry.content
        try:
            return self._files.read(entry.id, entry.size_bytes, cached=entry.is_cached)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise store_error(exc, self._files.path(entry.id)) from exc

    def __contains__(self, block_id: StoredId) -> bool:
        return self.size(block_id) is not None

    def size(self, block_id: StoredId) -> int | None:
        """Return how many bytes a block has, or None if it is not here; an index look-up."""
        queued = self._queue.get(block_id)
        if queued is not None:
            return queued.size_bytes
        return None if block_id in self._queue.leaving else self._index.size(block_id)

    def is_small(self, block_id: StoredId) -> bool:
        """Say whether a block is here and quicker to read than a hop to another thread takes."""
        size_bytes = self.size(block_id)
        return size_bytes is not None and size_bytes <= SMALL_BLOCK_BYTES

    def totals(self) -> StoreTotals:
        """Count what is durable: a scan of the index, 0.2 s per million blocks."""
        counts = self._index.totals().values()
        return StoreTotals(sum(each.blocks for each in counts), sum(each.bytes for each in counts))

    def totals_by_class(self) -> dict[BlockClass, StoreTotals]:
        """Count what is durable of each class, with the same effort."""
        return self._index.totals()

    def cached_totals(self) -> StoreTotals:
        """Return how many cached blocks were committed, without counting."""
        return self._index.cached


def _new_entry(
    block_id: StoredId, block: Buffer, block_class: BlockClass, asked: int | None = None
) -> Entry:
    """Return what the index is to say of a block; BlockTooLarge if it is no block."""
    size_bytes = checked_size(block_id, block)
    in_file = size_bytes > SMALL_BLOCK_BYTES
    content = None if in_file else bytes(block)
    return Entry(block_id, block_class, size_bytes, in_file, content, asked)


def _is_block(block: bytes | None, block_id: StoredId) -> TypeGuard[bytes]:
    return block is not None and is_block(block_id, block)

"""Which of the blocks that were fetched from peers stay in the store, and which go."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from libernet.blocks.errors import StoreError
from libernet.blocks.ids import StoredId
from libernet.blocks.store_files import BlockFiles
from libernet.blocks.store_index import BlockClass, BlockIndex, Entry
from libernet.blocks.store_queue import PutQueue

CACHE_BYTES = 10 * 1024**3
"""Room for cached blocks: a few hours of video, and little beside what disks have today."""

HELD_BYTES = 10 * 1024**3
"""Room for blocks kept for other nodes, once some are accepted: as much as for the cache."""

GUEST_BYTES = 1024**3
"""Room for blocks kept for whoever does not say who it is: a few backups of the original's tool."""

RESERVE_BYTES = 1024**3
"""What cached blocks leave free on the disk: more than is written between two looks at it."""

ASKED_STEP_SECONDS = 300
"""How exactly it is known when a block was asked for last: reading writes no more often."""

_MAX_NOTED = 20_000
"""Blocks whose reading is remembered until the next write, about 4 MB. What is read beyond that
keeps the time it had."""

_ROWS_PER_COMMIT = 256
"""Blocks evicted in one transaction, for which a flush may have to wait: 8 ms among a million small
blocks, 5 ms for files of 512 KiB."""

_COMMITS_AT_ONCE = 4
"""Such transactions that one put or flush may be kept with."""

_PAGES_GIVEN_BACK = 4096
"""By how much the index shrinks after a commit that evicted: more than such a commit empties."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """How much room cached blocks may take.

    Never more than *cache_bytes*, and none of the last *reserve_bytes* of the disk, or of its last
    quarter if that is less: one's own blocks and the journal come first.
    """

    cache_bytes: int
    reserve_bytes: int


class BlockCache:
    """The cached blocks of a store.

    State: `_noted`, when cached blocks were asked for, as far as the index does not know it yet;
    any thread adds, and each step is one operation of a dict. `_leases` counts who must not lose a
    block, and changes under the queue's lock. What is being evicted is in the queue's `leaving`: it
    counts as gone, so that a lease taken now cannot be for one of those. Where the disk lacks room,
    guests go before any cached block.
    """

    def __init__(
        self,
        index: BlockIndex,
        files: BlockFiles,
        queue: PutQueue,
        *,
        limits: CacheLimits,
        clock: Callable[[], float],
    ) -> None:
        self._index = index
        self._files = files
        self._queue = queue
        self._limits = limits
        self._clock = clock
        self._noted: dict[StoredId, int] = {}
        self._leases: Counter[StoredId] = Counter()

    def now(self) -> int:
        """Return the time as the index counts it."""
        return int(self._clock())

    def is_leased(self, block_id: StoredId) -> bool:
        """Say whether somebody must not lose the block now; to be asked under the queue's lock."""
        return block_id in self._leases

    def note_asked(self, entry: Entry) -> None:
        """Remember that a cached block was asked for, at most once per ASKED_STEP_SECONDS."""
        now = self.now()
        if abs(now - (entry.asked or 0)) >= ASKED_STEP_SECONDS and len(self._noted) < _MAX_NOTED:
            self._noted[entry.id] = now

    def write_asked(self) -> None:
        """Write when blocks were asked for since this was written last, or forget it."""
        try:
            while self._noted:
                noted = list(self._noted)[:_ROWS_PER_COMMIT]
                with self._queue.commit_lock:
                    self._index.forget_cached([], self._take_noted(noted))
        except StoreError as exc:
            _log.debug("it is lost when cached blocks were asked for: %s", exc)

    def _take_noted(self, block_ids: Collection[StoredId]) -> dict[StoredId, int]:
        taken = ((block_id, self._noted.pop(block_id, None)) for block_id in block_ids)
        return {block_id: asked for block_id, asked in taken if asked is not None}

    @contextmanager
    def lease(self, block_ids: Collection[StoredId]) -> Iterator[None]:
        """Keep those of these blocks that are here, or come, until the end of the context."""
        with self._queue.lock:
            self._leases.update(block_ids)
        try:
            yield
        finally:
            with self._queue.lock:
                self._leases.subtract(block_ids)
                for block_id in block_ids:
                    if not self._leases[block_id]:
                        del self._leases[block_id]

    def could_take(self, size_bytes: int) -> bool:
        """Say whether a block of that size fits at all, whatever else would have to go."""
        return size_bytes <= self._limits.cache_bytes

    def make_room(self, size_bytes: int) -> bool:
        """Evict until one more block fits; return False if it does not after a few steps."""
        for _ in range(_COMMITS_AT_ONCE):
            if not self._lacking(size_bytes):
                return True
            self._queue.flush()  # what is queued cannot go
            self._evict(size_bytes)
        return not self._lacking(size_bytes)

    def settle(self) -> None:
        """Make room for the cached blocks that wait for a commit, and for one's own on the disk.

        If there is not enough after a few steps, those that wait are given up. Never fails.
        """
        try:
            for _ in range(_COMMITS_AT_ONCE):
                if not self._holds_any() or not self._lacking() or not self._evict():
                    break
            if self._queue.cached and self._lacking():
                self._queue.drop_cached()
        except (StoreError, OSError) as exc:
            _log.debug("there is no room for cached blocks: %s", exc)

    def _holds_any(self) -> bool:
        guests = self._index.totals_of[BlockClass.GUEST]
        return guests.blocks > 0 or self._index.cached.blocks > 0 or self._queue.cached > 0

    def trim(self) -> None:
        """Evict until the cache leaves the room it must, in steps that flushes come between."""
        while self._lacking() and self._evict():
            pass

    def has_disk(self, size_bytes: int) -> bool:
        """Say whether the disk can take a block for another node, giving up cached ones for it."""
        if self._lacking_on_disk(size_bytes) > 0:
            self.make_room(size_bytes)
        return self._lacking_on_disk(size_bytes) <= 0

    def _lacking(self, size_bytes: int = 0) -> int:
        """Return how many bytes must go before *size_bytes* more may come; 0 if none."""
        held_bytes = self._index.cached.bytes + self._queue.bytes_of[BlockClass.CACHED]
        over_bytes = held_bytes + size_bytes - self._limits.cache_bytes
        return max(over_bytes, self._lacking_on_disk(size_bytes), 0)

    def _lacking_on_disk(self, size_bytes: int = 0) -> int:
        disk = os.statvfs(self._files.folder)
        reserve_bytes = min(self._limits.reserve_bytes, disk.f_blocks * disk.f_frsize // 4)
        free_bytes = disk.f_bavail * disk.f_frsize - self._queue.small_bytes
        return reserve_bytes + size_bytes - free_bytes

    def _evict(self, size_bytes: int = 0) -> bool:
        """Give up the blocks asked for least recently, until *size_bytes* more have room.

        One short transaction: it may take several. Returns False when nothing is left that may go.
        """
        if self._lacking_on_disk(size_bytes) > 0 and self._evict_guests(size_bytes):
            return True
        with self._queue.commit_lock:
            lacking_bytes = self._lacking(size_bytes)
            if not lacking_bytes:
                return True  # another thread was faster
            candidates = self._index.least_recently_asked(_ROWS_PER_COMMIT + len(self._leases))
            # those asked for since their row was written are not the least recent ones
            asked = self._take_noted([entry.id for entry in candidates])
            with self._queue.lock:
                victims = self._choose(
                    [entry for entry in candidates if entry.id not in asked],
                    # a tenth more, so that the next blocks that come find room
                    lacking_bytes + self._index.cached.bytes // 10,
                )
                self._queue.leaving = frozenset(entry.id for entry in victims)
            self._forget(victims, asked)
            if any(not entry.in_file for entry in victims) and self._lacking_on_disk() > 0:
                self._index.give_space_back(_PAGES_GIVEN_BACK)
        return bool(victims or asked)

    def _evict_guests(self, size_bytes: int) -> bool:
        """Give up as many guests as the disk lacks, the first first; False if there are none."""
        oldest = self._index.oldest_guests(_ROWS_PER_COMMIT + len(self._leases))
        victims = self._choose(oldest, self._lacking_on_disk(size_bytes))
        # Somebody may have pinned one since they were listed.
        gone = self._queue.give_up(
            victims, lambda each: not (self.is_leased(each) or self._index.is_pinned(each))
        )
        if any(not entry.in_file for entry in gone):
            with self._queue.commit_lock:
                self._index.give_space_back(_PAGES_GIVEN_BACK)
        return bool(gone)

    def _choose(self, candidates: list[Entry], wanted_bytes: int) -> list[Entry]:
        victims: list[Entry] = []
        for entry in candidates:
            if wanted_bytes <= 0 or len(victims) == _ROWS_PER_COMMIT:
                break
            if self._may_go(entry):
                victims.append(entry)
                wanted_bytes -= entry.size_bytes
        return victims

    def discard(self, block_id: StoredId) -> bool:
        """Give up a committed cached block, unless it is leased or just being put anew."""
        with self._queue.commit_lock:
            entry = self._index.find(block_id)
            with self._queue.lock:
                if entry is None or not entry.is_cached or not self._may_go(entry):
                    return False
                if self._index.is_pinned(block_id):
                    return False
                self._queue.leaving = frozenset([block_id])
            self._forget([entry], {})
        return True

    def _may_go(self, entry: Entry) -> bool:
        return entry.id not in self._leases and self._queue.get(entry.id) is None

    def _forget(self, victims: list[Entry], asked: dict[StoredId, int]) -> None:
        """Forget rows, then files: a crash leaves files without rows, for the next start."""
        try:
            self._index.forget_cached([entry.id for entry in victims], asked)
            for entry in victims:
                with self._queue.lock:
                    if entry.in_file and self._queue.get(entry.id) is None:
                        self._files.remove_cached(entry.id)
        finally:
            self._queue.leaving = frozenset()

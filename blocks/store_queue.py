"""What was put into the store and is not committed yet, and how it is committed."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from libernet.blocks.disk import store_error
from libernet.blocks.errors import StoreError, StoreFull
from libernet.blocks.ids import StoredId
from libernet.blocks.store_files import BlockFiles
from libernet.blocks.store_index import HELD_PIN, BlockClass, BlockIndex, Entry


class PutQueue:
    """Entries by block id, readable at once while they wait for a commit.

    An entry leaves only after its commit, so who looks here first and in the index then misses
    nothing.

    State: the entries; `puts`, how many were ever added, and `_committed_puts`, how many of these
    are durable; `small_bytes`, the memory that small blocks take; `cached`, the number of cached
    blocks; `bytes_of`, the size of all blocks of each class; `leaving`, the ids whose rows a
    transaction under way removes: they count as gone; `_noted`, the ids put since a collection
    began, None while there is none. All change only under `lock`, which callers also hold while
    they name or remove the files of entries.
    `commit_lock` lets one thread at a time write to the index; it is taken before `lock`.
    """

    def __init__(self, index: BlockIndex, files: BlockFiles) -> None:
        self._index = index
        self._files = files
        self.lock = threading.Lock()
        self.commit_lock = threading.Lock()
        self.puts = 0
        self.small_bytes = 0
        self.cached = 0
        self.bytes_of: Counter[BlockClass] = Counter()
        self._committed_puts = 0
        self.leaving: frozenset[StoredId] = frozenset()
        self._noted: set[StoredId] | None = None
        self._entries: dict[StoredId, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, block_id: StoredId) -> Entry | None:
        """Return what waits under that id; without the lock it may be committed a moment later."""
        return self._entries.get(block_id)

    def begin_noting(self) -> None:
        """Note what is put from now on; StoreError while somebody else has that done."""
        with self.lock:
            if self._noted is not None:
                raise StoreError("blocks are being collected already")
            self._noted = set()

    def end_noting(self) -> None:
        """Forget what was noted."""
        with self.lock:
            self._noted = None

    def note(self, block_id: StoredId) -> None:
        """Note that a block is being put, perhaps one that is here already."""
        if self._noted is not None:
            with self.lock:
                if self._noted is not None:
                    self._noted.add(block_id)

    def was_put_since(self, block_id: StoredId) -> bool:
        """Say whether a block was put since noting began."""
        return self._noted is not None and block_id in self._noted

    def add(self, entry: Entry) -> Entry:
        """Add an entry, unless there is one that keeps the block at least as well; return which.

        It takes the place of one whose class is worth less.
        """
        if self._noted is not None:
            self._noted.add(entry.id)  # its put may have begun before noting did
        queued = self._entries.get(entry.id)
        if queued is not None:
            if queued.is_kept_as(entry):
                return queued
            self.remove(queued)
            if queued.block_class is BlockClass.HELD:
                entry = replace(entry, is_held_too=True)
        self._entries[entry.id] = entry
        self.puts += 1
        self._count(entry, 1)
        return entry

    def remove(self, entry: Entry) -> None:
        """Remove this very entry; another one of the same block, put since then, stays."""
        if self._entries.get(entry.id) is entry:
            del self._entries[entry.id]
            self._count(entry, -1)

    def _count(self, entry: Entry, times: int) -> None:
        if entry.content is not None:
            self.small_bytes += times * len(entry.content)
        if entry.is_cached:
            self.cached += times
        self.bytes_of[entry.block_class] += times * entry.size_bytes

    def flush(self) -> None:
        """Return when all is durable that was added before this was called.

        Raises StoreFull or StoreError with one's own blocks still queued.
        """
        with self.lock:
            wanted = self.puts
        with self.commit_lock:
            if self._committed_puts < wanted:
                self._commit_all()

    def drop_cached(self) -> None:
        """Forget the cached blocks that wait."""
        with self.commit_lock:  # none of them is just being committed
            self._drop([entry for entry in list(self._entries.values()) if entry.is_cached])

    def _commit_all(self) -> None:
        with self.lock:
            entries = list(self._entries.values())
            puts = self.puts
        durable = self._without_overtaken([entry for entry in entries if not entry.is_cached])
        cached = self._without_overtaken([entry for entry in entries if entry.is_cached])
        try:
            self._commit(durable, cached)
        except StoreFull:
            if not cached:
                raise
            self._drop(cached)  # a cache must not keep one's own from becoming durable
            self._commit(durable, [])
        with self.lock:
            for entry in entries:
                self.remove(entry)
            self._committed_puts = puts

    def _commit(self, durable: list[Entry], cached: list[Entry]) -> None:
        try:
            self._files.sync_names(entry.id for entry in durable if entry.in_file)
        except OSError as exc:
            raise store_error(exc, self._files.folder) from exc
        self._index.replace([*durable, *cached])

    def _without_overtaken(self, entries: list[Entry]) -> list[Entry]:
        """Return those that no thread has committed as worth more since they were looked for.

        What is held for others and one's own by now is pinned.
        """
        overtaken = {entry.id: entry for entry in entries if self._is_overtaken(entry)}
        held = [each.id for each in overtaken.values() if each.block_class is BlockClass.HELD]
        if held:
            self._index.pin(held, HELD_PIN)
        self._drop(list(overtaken.values()))
        return [entry for entry in entries if entry.id not in overtaken]

    def _is_overtaken(self, entry: Entry) -> bool:
        known = None if entry.is_own else self._index.class_of(entry.id)
        return known is not None and known.worth > entry.block_class.worth

    def give_up(self, entries: Iterable[Entry], may_go: Callable[[StoredId], bool]) -> list[Entry]:
        """Forget committed blocks, none of them cached, durably; return which.

        Those stay that *may_go*, asked under the lock, does not agree to, and those that are of
        another class by now. Rows go first, then files: a crash leaves files without rows, which
        nothing reads.
        """
        with self.commit_lock:
            with self.lock:
                victims = [
                    entry
                    for entry in entries
                    if may_go(entry.id) and self._index.class_of(entry.id) is entry.block_class
                ]
                self.leaving = frozenset(entry.id for entry in victims)
            try:
                self._index.remove_all(victims)
                for entry in victims:
                    with self.lock:
                        if entry.in_file and self.get(entry.id) is None:
                            self._files.remove(entry.id)
            except OSError as exc:
                raise store_error(exc, self._files.folder) from exc
            finally:
                self.leaving = frozenset()
        return victims

    def _drop(self, entries: list[Entry]) -> None:
        with self.lock:
            for entry in entries:
                self.remove(entry)
                if entry.is_cached:
                    self._files.remove_cached(entry.id)

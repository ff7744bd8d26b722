"""What was put into the store and is not committed yet, and how it is committed."""

import threading

from libernet.blocks.disk import store_error
from libernet.blocks.errors import StoreFull
from libernet.blocks.ids import StoredId
from libernet.blocks.store_files import BlockFiles
from libernet.blocks.store_index import BlockIndex, Entry


class PutQueue:
    """Entries by block id, readable at once while they wait for a commit.

    An entry leaves only after its commit, so who looks here first and in the index then misses
    nothing.

    State: the entries; `puts`, how many were ever added, and `_committed_puts`, how many of these
    are durable; `small_bytes`, the memory that small blocks take; `cached` and `cached_bytes`, the
    number and the size of cached blocks. All change only under `lock`, which callers also hold
    while they name or remove the files of entries. `commit_lock` lets one thread at a time write
    to the index; it is taken before `lock`.
    """

    def __init__(self, index: BlockIndex, files: BlockFiles) -> None:
        self._index = index
        self._files = files
        self.lock = threading.Lock()
        self.commit_lock = threading.Lock()
        self.puts = 0
        self.small_bytes = 0
        self.cached = 0
        self.cached_bytes = 0
        self._committed_puts = 0
        self._entries: dict[StoredId, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, block_id: StoredId) -> Entry | None:
        """Return what waits under that id; without the lock it may be committed a moment later."""
        return self._entries.get(block_id)

    def add(self, entry: Entry) -> Entry:
        """Add an entry, unless there is one that keeps the block at least as well; return which.

        One's own takes the place of a cached one.
        """
        queued = self._entries.get(entry.id)
        if queued is not None:
            if entry.is_cached or not queued.is_cached:
                return queued
            self.remove(queued)
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
            self.cached_bytes += times * entry.size_bytes

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
        own = [entry for entry in entries if not entry.is_cached]
        cached = [entry for entry in entries if entry.is_cached]
        try:
            self._commit(own, self._without_own(cached))
        except StoreFull:
            if not cached:
                raise
            self._drop(cached)  # a cache must not keep one's own from becoming durable
            self._commit(own, [])
        with self.lock:
            for entry in entries:
                self.remove(entry)
            self._committed_puts = puts

    def _commit(self, own: list[Entry], cached: list[Entry]) -> None:
        try:
            self._files.sync_names(entry.id for entry in own if entry.in_file)
        except OSError as exc:
            raise store_error(exc, self._files.folder) from exc
        self._index.replace([*own, *cached])

    def _without_own(self, cached: list[Entry]) -> list[Entry]:
        """Return those that no thread has committed as one's own since they were found missing."""
        overtaken = {entry.id for entry in cached if self._index.own_size(entry.id) is not None}
        self._drop([entry for entry in cached if entry.id in overtaken])
        return [entry for entry in cached if entry.id not in overtaken]

    def _drop(self, cached: list[Entry]) -> None:
        with self.lock:
            for entry in cached:
                self.remove(entry)
                self._files.remove_cached(entry.id)

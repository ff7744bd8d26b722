"""Collecting blocks of one's own that nothing needs any more: mark, then sweep."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from libernet.blocks.disk import store_error
from libernet.blocks.ids import StoredId
from libernet.blocks.store_cache import BlockCache
from libernet.blocks.store_files import FAN_OUT, BlockFiles
from libernet.blocks.store_index import BlockIndex, Entry
from libernet.blocks.store_queue import PutQueue

_ROWS_PER_COMMIT = 256
"""Blocks forgotten in one transaction, for which a flush may have to wait: 5 to 8 ms."""

_PAGES_GIVEN_BACK = 4096
_MARKS_AT_ONCE = 1000

_MARKS_SCHEMA = """
PRAGMA journal_mode=OFF;
PRAGMA synchronous=OFF;
CREATE TABLE kept (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE walked (id BLOB PRIMARY KEY) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a sweep gave up, or would: blocks, their bytes, and files that had no row."""

    blocks: int = 0
    bytes: int = 0
    stray_files: int = 0


class Collection:
    """What of one's own is needed, as whoever collects finds out, and the sweep of the rest.

    It knows by itself what is put from its beginning on, also what was here already, what is
    leased and what is pinned. Whatever was put before and is needed must be marked: so all of it
    has to be committed where the marks come from, after the beginning.

    State: the marks, in a file of their own, as a million ids are too many for memory. The queue
    notes what is put.
    """

    def __init__(
        self, folder: Path, index: BlockIndex, files: BlockFiles, queue: PutQueue, cache: BlockCache
    ) -> None:
        self._path = folder / "collecting.sqlite"
        self._index = index
        self._files = files
        self._queue = queue
        self._cache = cache
        self._marks: sqlite3.Connection

    def __enter__(self) -> Self:
        self._queue.begin_noting()
        try:
            self._path.unlink(missing_ok=True)
            self._marks = sqlite3.connect(self._path, check_same_thread=False)
            self._marks.executescript(_MARKS_SCHEMA)
        except (OSError, sqlite3.Error) as exc:
            self._queue.end_noting()
            raise store_error(exc, self._path) from exc
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._queue.end_noting()
        with suppress(sqlite3.Error):
            self._marks.close()
        self._path.unlink(missing_ok=True)

    def keep(self, block_ids: Iterable[StoredId]) -> None:
        """Mark blocks that are needed; StoreFull or StoreError if that cannot be noted."""
        waiting = iter(block_ids)
        # In portions: finding out the next ids may mark some others.
        while rows := [(bytes(block_id),) for block_id in islice(waiting, _MARKS_AT_ONCE)]:
            try:
                self._marks.executemany("INSERT OR IGNORE INTO kept VALUES (?)", rows)
            except sqlite3.Error as exc:
                raise store_error(exc, self._path) from exc

    def enter(self, block_id: StoredId) -> bool:
        """Mark a block that names others; return whether what it names is still to be marked."""
        self.keep([block_id])
        try:
            row = (bytes(block_id),)
            return self._marks.execute("INSERT OR IGNORE INTO walked VALUES (?)", row).rowcount == 1
        except sqlite3.Error as exc:
            raise store_error(exc, self._path) from exc

    def sweep(
        self, *, dry_run: bool = False, go_on: Callable[[], None] = lambda: None
    ) -> Collected:
        """Give up all blocks of one's own that are not needed, durably; with *dry_run* count them.

        *go_on* is called between transactions, and ends the sweep there by raising. Rows go first,
        each time, then files: a crash at any moment leaves files without rows, which nothing reads
        and the next sweep removes. Raises StoreError.
        """
        blocks = size_bytes = 0
        for unneeded in self._unneeded():
            go_on()
            gone = unneeded if dry_run else self._queue.give_up(unneeded, self._may_go)
            blocks += len(gone)
            size_bytes += sum(entry.size_bytes for entry in gone)
        if not dry_run and blocks:
            with self._queue.commit_lock:
                self._index.give_space_back(_PAGES_GIVEN_BACK)
        return Collected(blocks, size_bytes, 0 if dry_run else self._remove_strays())

    def _unneeded(self) -> Iterator[list[Entry]]:
        after = b""
        while entries := self._index.behind(after, _ROWS_PER_COMMIT):
            after = bytes(entries[-1].id)
            unneeded = [each for each in entries if each.is_own and not self._is_needed(each.id)]
            if unneeded:
                yield unneeded

    def _is_needed(self, block_id: StoredId) -> bool:
        try:
            row = (bytes(block_id),)
            marked = self._marks.execute("SELECT 1 FROM kept WHERE id = ?", row).fetchone()
        except sqlite3.Error as exc:
            raise store_error(exc, self._path) from exc
        return bool(marked) or self._is_wanted(block_id)

    def _is_wanted(self, block_id: StoredId) -> bool:
        """Say whether somebody wants a block, whatever the marks say."""
        return (
            self._queue.was_put_since(block_id)
            or self._cache.is_leased(block_id)
            or self._queue.get(block_id) is not None
            or self._index.is_pinned(block_id)
        )

    def _may_go(self, block_id: StoredId) -> bool:
        return not self._is_wanted(block_id)  # perhaps it became so since the marks were looked at

    def _remove_strays(self) -> int:
        """Remove the files of blocks that have no row, and none on its way; return how many."""
        removed = 0
        try:
            for first_byte in range(FAN_OUT):
                for block_id in self._files.named_in(first_byte):
                    if self._index.size(block_id) is not None:
                        continue
                    with self._queue.lock:
                        known = self._queue.get(block_id) or self._index.size(block_id)
                        if known is None:
                            self._files.remove(block_id)
                            removed += 1
        except OSError as exc:
            raise store_error(exc, self._files.folder) from exc
        return removed

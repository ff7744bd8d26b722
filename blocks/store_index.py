"""The index of the store: one SQLite file that knows every block and holds the small ones."""

import enum
import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libernet.blocks.disk import store_error
from libernet.blocks.errors import StoreError, StoreVersion
from libernet.blocks.ids import StoredId, stored_id

STORE_VERSION = 1
"""Version of the schema below; a store with a higher one is refused."""

# Data dictionary. Ids live apart from contents so that a scan over all blocks (collection,
# announcing, totals) and a look-up of a size touch 62 MB per million blocks and no contents; with
# 10 KiB contents inside a WITHOUT ROWID table putting was 4 times slower (5,700 against 22,000/s).
#
# meta.key, meta.value   "version": STORE_VERSION of the program that made or last migrated this.
#
# block.id       BlockId or BlobId, told by their lengths.
# block.class    why it is kept, a BlockClass. A block of class OWN is durable: its content row or
#                its file, with the file's name, was on the disk before this row was. The file of
#                class CACHED may be torn or missing. Never updated: a row is replaced instead.
# block.size     stored bytes; what reading the file asks for.
# block.content  content.row of a small block; NULL says that blocks/xx/ID holds the bytes, or
#                cached/ID those of class CACHED.
# block.asked    class CACHED: when somebody last asked for it, whole seconds since 1970, coarse;
#                the least goes first (cached_by_asked). NULL otherwise.
#
# content.row    given out by the one writer, ascending; used by exactly one block.content.
# content.bytes  the block. Goes when its block row goes (content_goes_too).
#
# cached_total   one row: how many rows of class CACHED there are (blocks), and the sum of their
#                sizes (bytes). Kept true by triggers, so that no start has to count a million rows.
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE block (
    id BLOB PRIMARY KEY,
    class INTEGER NOT NULL,
    size INTEGER NOT NULL,
    content INTEGER,
    asked INTEGER
) WITHOUT ROWID;
CREATE INDEX cached_by_asked ON block (asked) WHERE class = 2;
CREATE TABLE content (row INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TRIGGER content_goes_too AFTER DELETE ON block WHEN old.content IS NOT NULL BEGIN
    DELETE FROM content WHERE row = old.content;
END;
CREATE TABLE cached_total (blocks INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO cached_total VALUES (0, 0);
CREATE TRIGGER cached_block_comes AFTER INSERT ON block WHEN new.class = 2 BEGIN
    UPDATE cached_total SET blocks = blocks + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER cached_block_goes AFTER DELETE ON block WHEN old.class = 2 BEGIN
    UPDATE cached_total SET blocks = blocks - 1, bytes = bytes - old.size;
END;
"""

_PAGE_BYTES = 4096
"""Larger pages put 4 KiB blocks faster into an empty store (48,000 against 39,000/s) but slower
into one of 500,000 blocks (17,000 against 25,000/s at 32 KiB): each new id dirties a whole page."""

_CHECKPOINT_PAGES = 16 * 1024 * 1024 // _PAGE_BYTES
_WAL_LIMIT_BYTES = 32 * 1024 * 1024
"""How far the log grows before a commit empties it, about 25 ms, and what it is then cut to."""

_WRITER_PRAGMAS = (
    f"PRAGMA page_size={_PAGE_BYTES}",
    "PRAGMA auto_vacuum=INCREMENTAL",  # can only be chosen now; puts are as fast with it
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=OFF",  # blocks are ciphertext
    "PRAGMA cache_size=-16384",
    f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}",
)

_FIND = """SELECT block.class, block.size, block.content IS NULL, content.bytes, block.asked
    FROM block LEFT JOIN content ON content.row = block.content WHERE block.id = ?"""
_SIZE = "SELECT size FROM block WHERE id = ?"
_OWN_SIZE = "SELECT size FROM block WHERE id = ? AND class = 1"
_IS_CACHED = "SELECT 1 FROM block WHERE id = ? AND class = 2"
_TOTALS = """SELECT count(*), coalesce(sum(size), 0),
    (SELECT blocks FROM cached_total), (SELECT bytes FROM cached_total) FROM block"""
_CACHED_TOTAL = "SELECT blocks, bytes FROM cached_total"
_LEAST_RECENTLY_ASKED = """SELECT id, class, size, content IS NULL, NULL, asked
    FROM block WHERE class = 2 ORDER BY asked LIMIT ?"""


class BlockClass(enum.IntEnum):
    """Why a block is kept. Numbers are what the index holds; they never change meaning.

    OWN was put here, and is never given up. CACHED was fetched from a peer, and may go.
    """

    OWN = 1
    CACHED = 2


@dataclass(frozen=True, slots=True)
class StoreTotals:
    """What the store holds durably."""

    blocks: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says, or is to say, about one block.

    *content* holds the bytes of a small block. With *in_file* unset and no content, the bytes of a
    small block are lost. *asked* is set for cached blocks.
    """

    id: StoredId
    block_class: BlockClass
    size_bytes: int
    in_file: bool
    content: bytes | None = None
    asked: int | None = None

    @property
    def is_cached(self) -> bool:
        """Say whether the block may go when room is needed."""
        return self.block_class is BlockClass.CACHED


class BlockIndex:
    """The SQLite file at *path*, open between `open` and `close`.

    State: the writer's connection and the next free content row, to be used by one thread at a
    time (the caller's lock); read-only connections that wait for a reader. A reader takes one or
    opens one, so there are as many as there ever were reads at the same time, whichever threads
    come and go; a commit never makes a read wait, nor does a read ever empty the log.
    `cached` counts the cached blocks as of the last commit, `was_left_open` says whether whoever
    had the file open before died with it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: sqlite3.Connection | None = None
        self._next_row = 1
        self.cached = StoreTotals()
        self.was_left_open = False
        self._idle_readers: deque[sqlite3.Connection] = deque()

    def open(self) -> None:
        """Open or create the file; StoreVersion if a newer program wrote it."""
        self.was_left_open = Path(f"{self._path}-wal").exists()  # SQLite removes it at the end
        try:
            writer = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            try:
                self._next_row = _prepare(writer, self._path)
                self.cached = StoreTotals(*writer.execute(_CACHED_TOTAL).fetchone())
            except BaseException:
                writer.close()
                raise
        except sqlite3.Error as exc:
            raise store_error(exc, self._path) from exc
        self._writer = writer

    def close(self) -> None:
        """Close all connections; the last one leaves no log behind."""
        while self._idle_readers:
            self._idle_readers.pop().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def find(self, block_id: StoredId) -> Entry | None:
        """Return all about a block, with its content if it is a small one (8 us at 4 KiB)."""
        row = self._ask(_FIND, bytes(block_id))
        if row is None:
            return None
        block_class, size_bytes, in_file, content, asked = row
        return Entry(block_id, BlockClass(block_class), size_bytes, bool(in_file), content, asked)

    def size(self, block_id: StoredId) -> int | None:
        """Return how many bytes a block has, or None if it is not here (4 us)."""
        row = self._ask(_SIZE, bytes(block_id))
        return None if row is None else row[0]

    def own_size(self, block_id: StoredId) -> int | None:
        """Return how many bytes a block of one's own has, or None if there is no such one."""
        row = self._ask(_OWN_SIZE, bytes(block_id))
        return None if row is None else row[0]

    def is_cached(self, block_id: StoredId) -> bool:
        """Say whether a block is here as a cached one."""
        return self._ask(_IS_CACHED, bytes(block_id)) is not None

    def totals(self) -> dict[BlockClass, StoreTotals]:
        """Count the blocks of each class: a scan, 0.2 s per million."""
        blocks, size_bytes, cached_blocks, cached_bytes = self._ask_all(_TOTALS)[0]
        return {
            BlockClass.OWN: StoreTotals(blocks - cached_blocks, size_bytes - cached_bytes),
            BlockClass.CACHED: StoreTotals(cached_blocks, cached_bytes),
        }

    def least_recently_asked(self, limit: int) -> list[Entry]:
        """Return up to *limit* cached blocks, without contents, the first to go first."""
        return [
            Entry(stored_id(row[0]), BlockClass(row[1]), row[2], bool(row[3]), *row[4:])
            for row in self._ask_all(_LEAST_RECENTLY_ASKED, limit)
        ]

    def replace(self, entries: Sequence[Entry]) -> None:
        """Make these entries the index's own, durably and all together or none of them."""
        contents: list[tuple[int, bytes]] = []
        blocks: list[tuple[bytes, int, int, int | None, int | None]] = []
        for entry in entries:
            content_row = None
            if entry.content is not None:
                content_row = self._next_row + len(contents)
                contents.append((content_row, entry.content))
            blocks.append(
                (bytes(entry.id), entry.block_class, entry.size_bytes, content_row, entry.asked)
            )
        self._commit(
            ("DELETE FROM block WHERE id = ?", [block[:1] for block in blocks]),
            ("INSERT INTO content (row, bytes) VALUES (?, ?)", contents),
            (
                "INSERT INTO block (id, class, size, content, asked) VALUES (?, ?, ?, ?, ?)",
                blocks,
            ),
        )
        self._next_row += len(contents)

    def remove(self, block_id: StoredId) -> None:
        """Forget a block, durably."""
        self._commit(("DELETE FROM block WHERE id = ?", [(bytes(block_id),)]))

    def forget_cached(self, gone: Iterable[StoredId], asked: Mapping[StoredId, int]) -> None:
        """Forget the cached blocks among *gone* and note when those in *asked* were asked for."""
        self._commit(
            (
                "DELETE FROM block WHERE id = ? AND class = 2",
                [(bytes(block_id),) for block_id in gone],
            ),
            (
                "UPDATE block SET asked = ? WHERE id = ? AND class = 2",
                [(seconds, bytes(block_id)) for block_id, seconds in asked.items()],
            ),
        )

    def give_space_back(self, pages: int) -> None:
        """Shrink the file by what forgotten blocks left, up to *pages* of _PAGE_BYTES."""
        writer = self._open_writer()
        try:
            # as a script: execute stops after the first page, which is a row without columns
            writer.executescript(f"PRAGMA incremental_vacuum({pages:d})")
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as exc:
            raise store_error(exc, self._path) from exc

    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            raise StoreError(f"{self._path} is not open")
        return self._writer

    def _commit(self, *statements: tuple[str, Sequence[tuple[Any, ...]]]) -> None:
        writer = self._open_writer()
        try:
            writer.execute("BEGIN IMMEDIATE")
            for statement, rows in statements:
                writer.executemany(statement, rows)
            cached = StoreTotals(*writer.execute(_CACHED_TOTAL).fetchone())
            writer.execute("COMMIT")
        except sqlite3.Error as exc:
            if writer.in_transaction:  # some errors end the transaction themselves
                writer.execute("ROLLBACK")
            raise store_error(exc, self._path) from exc
        self.cached = cached

    def _ask(self, query: str, *parameters: bytes) -> tuple[Any, ...] | None:
        rows = self._ask_all(query, *parameters)
        return rows[0] if rows else None

    def _ask_all(self, query: str, *parameters: bytes | int) -> list[tuple[Any, ...]]:
        try:
            reader = self._idle_readers.pop()
        except IndexError:
            reader = self._open_reader()
        try:
            # fetchall ends the statement: a read left open would keep the log from being emptied
            return reader.execute(query, parameters).fetchall()
        except sqlite3.Error as exc:
            raise store_error(exc, self._path) from exc
        finally:
            self._idle_readers.append(reader)

    def _open_reader(self) -> sqlite3.Connection:
        self._open_writer()
        try:
            return sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as exc:
            raise store_error(exc, self._path) from exc


def _prepare(writer: sqlite3.Connection, path: Path) -> int:
    """Make the schema if there is none yet; return the next free content row."""
    version = _version(writer)
    if version is not None and version > STORE_VERSION:
        raise StoreVersion(
            f"{path} was written by a newer version of Libernet (store version {version}, "
            f"this program knows {STORE_VERSION}): install that version"
        )
    for pragma in _WRITER_PRAGMAS:
        writer.execute(pragma)
    if version is None:
        writer.executescript(
            f"BEGIN;{_SCHEMA}INSERT INTO meta VALUES ('version', {STORE_VERSION});COMMIT;"
        )
    next_row: int = writer.execute("SELECT coalesce(max(row), 0) + 1 FROM content").fetchone()[0]
    return next_row


def _version(writer: sqlite3.Connection) -> int | None:
    if not writer.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchall():
        return None
    row = writer.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    return int(row[0])

"""The index of the store: one SQLite file that knows every block and holds the small ones."""

import enum
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libernet.blocks.disk import store_error
from libernet.blocks.errors import StoreError
from libernet.blocks.ids import StoredId, stored_id
from libernet.blocks.store_schema import prepare

_FIND = """SELECT block.class, block.size, block.content IS NULL, content.bytes, block.asked
    FROM block LEFT JOIN content ON content.row = block.content WHERE block.id = ?"""
_SIZE = "SELECT size FROM block WHERE id = ?"
_OWN_SIZE = "SELECT size FROM block WHERE id = ? AND class = 1"
_CLASS = "SELECT class FROM block WHERE id = ?"
_IS_CACHED = "SELECT 1 FROM block WHERE id = ? AND class = 2"
_TOTALS = "SELECT count(*), coalesce(sum(size), 0) FROM block"
_NEXT_ROW = "SELECT coalesce(max(row), 0) + 1 FROM content"
_CLASS_TOTALS = "SELECT class, blocks, bytes FROM class_total"
_PIN = "INSERT OR IGNORE INTO pin VALUES (?, ?)"
_PIN_HELD = "INSERT OR IGNORE INTO pin SELECT id, ? FROM block WHERE id = ? AND class = 3"
_IS_PINNED = "SELECT 1 FROM pin WHERE id = ? LIMIT 1"
_BEHIND = """SELECT id, class, size, content IS NULL, NULL, asked
    FROM block WHERE id > ? ORDER BY id LIMIT ?"""
_OLDEST_GUESTS = """SELECT id, class, size, content IS NULL, NULL, asked
    FROM block WHERE class = 4 AND id NOT IN (SELECT id FROM pin) ORDER BY asked LIMIT ?"""
_LEAST_RECENTLY_ASKED = """SELECT id, class, size, content IS NULL, NULL, asked
    FROM block WHERE class = 2 AND id NOT IN (SELECT id FROM pin) ORDER BY asked LIMIT ?"""


HELD_PIN = "held"
"""Who pins a block that is one's own and held for another node: no collection may take it."""


class BlockClass(enum.IntEnum):
    """Why a block is kept. Numbers are what the index holds; they never change meaning.

    OWN was put here, and goes only when nothing needs it any more. CACHED was fetched from a peer,
    and may go. HELD is kept for another node, as durably as one's own. GUEST is too, for somebody
    who did not say who it is: it goes before anything else when the disk gets full.
    """

    OWN = 1
    CACHED = 2
    HELD = 3
    GUEST = 4

    @property
    def worth(self) -> int:
        """Rank how much is promised of a block: of two classes the higher one counts."""
        return (self.CACHED, self.GUEST, self.HELD, self.OWN).index(self)


@dataclass(frozen=True, slots=True)
class StoreTotals:
    """What the store holds durably."""

    blocks: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says, or is to say, about one block.

    *content* holds the bytes of a small block. With *in_file* unset and no content, the bytes of a
    small block are lost. *asked* is set for cached blocks and guests. *is_held_too* says of one of
    one's own that it is kept for another node as well.
    """

    id: StoredId
    block_class: BlockClass
    size_bytes: int
    in_file: bool
    content: bytes | None = None
    asked: int | None = None
    is_held_too: bool = False

    @property
    def is_cached(self) -> bool:
        """Say whether the block may go when room is needed."""
        return self.block_class is BlockClass.CACHED

    @property
    def is_own(self) -> bool:
        """Say whether the block was put here for this node's own sake."""
        return self.block_class is BlockClass.OWN

    def is_kept_as(self, other: "Entry") -> bool:
        """Say whether as much is promised of this block as of *other*, or more."""
        return self.block_class.worth >= other.block_class.worth


class BlockIndex:
    """The SQLite file at *path*, open between `open` and `close`.

    State: the writer's connection and the next free content row, to be used by one thread at a
    time (the caller's lock); read-only connections that wait for a reader. A reader takes one or
    opens one, so there are as many as there ever were reads at the same time, whichever threads
    come and go; a commit never makes a read wait, nor does a read ever empty the log.
    `totals_of` counts the blocks of each class but OWN as of the last commit, `was_left_open` says
    whether whoever had the file open before died with it. `on_change` is told, in the thread that
    commits, the ids of blocks that came or went.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: sqlite3.Connection | None = None
        self._next_row = 1
        self.totals_of: Mapping[BlockClass, StoreTotals] = {}
        self.was_left_open = False
        self.on_change: Callable[[Iterable[bytes]], None] = lambda block_ids: None
        self._idle_readers: deque[sqlite3.Connection] = deque()

    def open(self) -> None:
        """Open or create the file; StoreVersion if a newer program wrote it."""
        self.was_left_open = Path(f"{self._path}-wal").exists()  # SQLite removes it at the end
        try:
            writer = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            try:
                prepare(writer, self._path)
                self._next_row = writer.execute(_NEXT_ROW).fetchone()[0]
                self.totals_of = _class_totals(writer)
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

    def class_of(self, block_id: StoredId) -> BlockClass | None:
        """Return why a block is kept, or None if it is not here."""
        row = self._ask(_CLASS, bytes(block_id))
        return None if row is None else BlockClass(row[0])

    def is_cached(self, block_id: StoredId) -> bool:
        """Say whether a block is here as a cached one."""
        return self._ask(_IS_CACHED, bytes(block_id)) is not None

    @property
    def cached(self) -> StoreTotals:
        """Count the cached blocks as of the last commit."""
        return self.totals_of[BlockClass.CACHED]

    def totals(self) -> dict[BlockClass, StoreTotals]:
        """Count the blocks of each class: a scan, 0.2 s per million."""
        counted = self.totals_of
        blocks, size_bytes = self.ask_all(_TOTALS)[0]
        own = StoreTotals(
            blocks - sum(totals.blocks for totals in counted.values()),
            size_bytes - sum(totals.bytes for totals in counted.values()),
        )
        return {BlockClass.OWN: own, **counted}

    def is_pinned(self, block_id: StoredId) -> bool:
        """Say whether anybody has pinned a block."""
        return self._ask(_IS_PINNED, bytes(block_id)) is not None

    def behind(self, block_id: bytes, limit: int) -> list[Entry]:
        """Return up to *limit* entries, without contents, behind an id, by id; b"" is the start."""
        return [_entry(row) for row in self.ask_all(_BEHIND, block_id, limit)]

    def damage(self) -> list[str]:
        """Return what SQLite finds wrong with the file itself (0.5 s per million blocks)."""
        found = [row[0] for row in self.ask_all("PRAGMA quick_check(10)")]
        return [] if found == ["ok"] else found

    def least_recently_asked(self, limit: int) -> list[Entry]:
        """Return up to *limit* cached blocks, without contents, the first to go first."""
        return [_entry(row) for row in self.ask_all(_LEAST_RECENTLY_ASKED, limit)]

    def oldest_guests(self, limit: int) -> list[Entry]:
        """Return up to *limit* guests, without contents, the first to go first."""
        return [_entry(row) for row in self.ask_all(_OLDEST_GUESTS, limit)]

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
        own = [(HELD_PIN, bytes(entry.id)) for entry in entries if entry.is_own]
        held_too = [(bytes(entry.id), HELD_PIN) for entry in entries if entry.is_held_too]
        self.commit(
            (_PIN_HELD, own),
            (_PIN, held_too),
            ("DELETE FROM block WHERE id = ?", [block[:1] for block in blocks]),
            ("INSERT INTO content (row, bytes) VALUES (?, ?)", contents),
            (
                "INSERT INTO block (id, class, size, content, asked) VALUES (?, ?, ?, ?, ?)",
                blocks,
            ),
        )
        self._next_row += len(contents)
        self.on_change(block[0] for block in blocks)

    def pin(self, block_ids: Iterable[StoredId], owner: str) -> None:
        """Let *owner* have these blocks pinned, durably."""
        rows = [(bytes(block_id), owner) for block_id in block_ids]
        self.commit((_PIN, rows))

    def unpin(self, owner: str) -> None:
        """Forget all pins of *owner*, durably."""
        self.commit(("DELETE FROM pin WHERE owner = ?", [(owner,)]))

    def remove_all(self, entries: Iterable[Entry]) -> None:
        """Forget these blocks, unless of another class by now, durably and in one transaction."""
        rows = [(bytes(entry.id), entry.block_class) for entry in entries]
        self.commit(("DELETE FROM block WHERE id = ? AND class = ?", rows))
        self.on_change(row[0] for row in rows)

    def remove(self, block_id: StoredId) -> None:
        """Forget a block, durably."""
        self.commit(("DELETE FROM block WHERE id = ?", [(bytes(block_id),)]))
        self.on_change([bytes(block_id)])

    def forget_cached(self, gone: Iterable[StoredId], asked: Mapping[StoredId, int]) -> None:
        """Forget the cached blocks among *gone* and note when those in *asked* were asked for."""
        rows = [(bytes(block_id),) for block_id in gone]
        self.commit(
            ("DELETE FROM block WHERE id = ? AND class = 2", rows),
            (
                "UPDATE block SET asked = ? WHERE id = ? AND class = 2",
                [(seconds, bytes(block_id)) for block_id, seconds in asked.items()],
            ),
        )
        self.on_change(row[0] for row in rows)

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

    def commit(self, *statements: tuple[str, Sequence[tuple[Any, ...]]]) -> None:
        """Do all of these statements, each for all of its rows, durably, or none of them."""
        writer = self._open_writer()
        try:
            writer.execute("BEGIN IMMEDIATE")
            for statement, rows in statements:
                writer.executemany(statement, rows)
            totals = _class_totals(writer)
            writer.execute("COMMIT")
        except sqlite3.Error as exc:
            if writer.in_transaction:  # some errors end the transaction themselves
                writer.execute("ROLLBACK")
            raise store_error(exc, self._path) from exc
        self.totals_of = totals

    def _ask(self, query: str, *parameters: bytes) -> tuple[Any, ...] | None:
        rows = self.ask_all(query, *parameters)
        return rows[0] if rows else None

    def ask_all(self, query: str, *parameters: bytes | int) -> list[tuple[Any, ...]]:
        """Return what a query finds among what is committed."""
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


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(stored_id(row[0]), BlockClass(row[1]), row[2], bool(row[3]), *row[4:])


def _class_totals(connection: sqlite3.Connection) -> dict[BlockClass, StoreTotals]:
    return {BlockClass(row[0]): StoreTotals(*row[1:]) for row in connection.execute(_CLASS_TOTALS)}

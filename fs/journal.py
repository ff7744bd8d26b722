"""The journal: the committed state of the backups, in SQLite.

One connection writes, in one thread at a time; each reader has a connection of its own, so a
COMMIT never holds up a look-up. A generation is applied in one transaction (WAL, FULL): after a
crash the journal shows the last generation whose apply() returned, or a later one.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from libernet.blocks.addresses import Address
from libernet.blocks.reference import Reference
from libernet.fs import journal_schema
from libernet.fs.content import Extent
from libernet.fs.inode import FIRST_INO, Inode
from libernet.fs.journal_reader import (
    EXTENT_COLUMNS,
    INODE_COLUMNS,
    FolderDocumentRow,
    JournalReader,
    Snapshot,
)
from libernet.fs.transaction import Transaction

_PRAGMAS = (
    "page_size = 2048",  # a commit of one small change writes four: 40 % more bytes with 4 KiB each
    "journal_mode = WAL",
    "synchronous = FULL",
    f"journal_size_limit = {16 * 1024 * 1024}",
)


_EVER = 2**63 - 1


@dataclass(slots=True)
class Batch:
    """What one generation changes.

    `entries` maps a name in a folder to its inode, None where it went. `extents` are by inode.
    `xattrs` are all that an inode has now, for each whose extended attributes changed.
    `touched` are the inodes whose folders must be published again.
    """

    generation: int
    next_ino: int
    inodes: list[Inode] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    entries: list[tuple[int, bytes, int | None]] = field(default_factory=list)
    extents: list[tuple[int, Extent]] = field(default_factory=list)
    extents_gone: list[tuple[int, int]] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    xattrs: dict[int, Mapping[bytes, bytes]] = field(default_factory=dict)


class Journal:
    """The writing side; a context manager that makes and checks the journal's file.

    Tasks: apply() and record_snapshot() are called by one thread at a time; the caller sees to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection

    def __enter__(self) -> Self:
        self._connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=30
        )
        try:
            for pragma in _PRAGMAS:
                self._connection.execute(f"PRAGMA {pragma}")
            journal_schema.prepare(self._connection)
            self._remove_unlinked()
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._connection.close()

    def reader(self) -> JournalReader:
        """Return a new reader; the caller closes it."""
        return JournalReader(self.path)

    def apply(self, batch: Batch) -> None:
        """Commit *batch* in one transaction."""
        with self.transaction() as connection:
            self._apply_extents(connection, batch)
            self._apply_xattrs(connection, batch)
            connection.executemany("DELETE FROM inode WHERE ino = ?", _keys(batch.dropped))
            connection.executemany(
                "DELETE FROM folder_document WHERE ino = ?", _keys(batch.dropped)
            )
            connection.executemany(
                f"INSERT INTO inode ({INODE_COLUMNS}, changed)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
                " ON CONFLICT (ino) DO UPDATE SET mode = excluded.mode, uid = excluded.uid,"
                " gid = excluded.gid, size = excluded.size, nlink = excluded.nlink,"
                " atime_ns = excluded.atime_ns, mtime_ns = excluded.mtime_ns,"
                " ctime_ns = excluded.ctime_ns, parent = excluded.parent",
                ((*_inode_row(inode), batch.generation) for inode in batch.inodes),
            )
            self._apply_entries(connection, batch)
            mark_changed(connection, batch.touched, batch.generation)
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [("generation", batch.generation), ("next_ino", batch.next_ino)],
            )

    def needed_segments(self) -> set[int]:
        """Return the segments of the data log that committed extents name."""
        rows = self._connection.execute(
            "SELECT DISTINCT segment FROM extent WHERE segment IS NOT NULL"
        )
        return {row[0] for row in rows}

    def record_snapshot(self, snapshot: Snapshot, documents: list[FolderDocumentRow]) -> int:
        """Commit a published version together with what was learned on the way.

        Returns the number that it got.
        """
        with self.transaction() as connection:
            for document in documents:
                _record_document(connection, document, snapshot.generation)
            recorded = connection.execute(
                "INSERT INTO snapshot (backup, backup_name, name, reference, generation,"
                " published_ns, files, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    snapshot.backup,
                    snapshot.backup_name,
                    snapshot.name,
                    str(snapshot.reference),
                    snapshot.generation,
                    snapshot.published_ns,
                    snapshot.files,
                    snapshot.bytes,
                ),
            )
        assert recorded.lastrowid is not None
        return recorded.lastrowid

    def record_opened(self, name: bytes, address: Address, opened_ns: int) -> None:
        """Commit that a bundle is open under a name."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO opened VALUES (?, ?, ?)", (name, str(address), opened_ns)
            )

    def record_closed(self, name: bytes) -> None:
        """Commit that no bundle is open under a name any more."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM opened WHERE name = ?", (name,))

    def record_share(self, reference: Reference, path: bytes, shared_ns: int) -> None:
        """Commit that a reference was handed out for a path."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO share VALUES (?, ?, ?)", (str(reference), path, shared_ns)
            )

    def _apply_extents(self, connection: sqlite3.Connection, batch: Batch) -> None:
        connection.executemany("DELETE FROM extent WHERE ino = ?", _keys(batch.dropped))
        connection.executemany("DELETE FROM extent WHERE ino = ? AND start = ?", batch.extents_gone)
        connection.executemany(
            f"INSERT OR REPLACE INTO extent (ino, {EXTENT_COLUMNS})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (extent_row(ino, extent) for ino, extent in batch.extents),
        )

    def _apply_xattrs(self, connection: sqlite3.Connection, batch: Batch) -> None:
        connection.executemany("DELETE FROM xattr WHERE ino = ?", _keys(batch.dropped))
        connection.executemany("DELETE FROM xattr WHERE ino = ?", _keys(batch.xattrs.keys()))
        connection.executemany(
            "INSERT INTO xattr VALUES (?, ?, ?)",
            (
                (ino, name, value)
                for ino, xattrs in batch.xattrs.items()
                for name, value in xattrs.items()
            ),
        )

    def _apply_entries(self, connection: sqlite3.Connection, batch: Batch) -> None:
        connection.executemany(
            "DELETE FROM entry WHERE parent = ? AND name = ?",
            ((parent, name) for parent, name, ino in batch.entries if ino is None),
        )
        connection.executemany(
            "INSERT OR REPLACE INTO entry VALUES (?, ?, ?)",
            (entry for entry in batch.entries if entry[2] is not None),
        )
        if _has_pages(connection):
            connection.executemany(
                "INSERT OR REPLACE INTO changed_name SELECT ?1, ?2, ?3"
                " WHERE EXISTS (SELECT 1 FROM folder_page WHERE ino = ?1)",
                ((parent, name, batch.generation) for parent, name, _ in batch.entries),
            )

    def _remove_unlinked(self) -> None:
        """Finish the removal of inodes that were open without a name at the last end.

        One that has a name all the same was damaged: it is left to repair.
        """
        unlinked = (
            "SELECT ino FROM inode WHERE nlink = 0"
            " AND NOT EXISTS (SELECT 1 FROM entry WHERE entry.ino = inode.ino)"
        )
        with self.transaction() as connection:
            for table in ("extent", "xattr", "inode"):
                connection.execute(f"DELETE FROM {table} WHERE ino IN ({unlinked})")
            connection.execute(
                "DELETE FROM folder_document WHERE ino NOT IN (SELECT ino FROM inode)"
            )
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('next_ino', ?)", (FIRST_INO,))

    def transaction(self) -> Transaction:
        """Return a context that commits what is done to the connection that it provides."""
        return Transaction(self._connection)


def mark_changed(connection: sqlite3.Connection, touched: Iterable[int], generation: int) -> None:
    """Let the folders of every touched inode, up to the root, know that generation."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS touched (ino INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM touched")
    connection.executemany("INSERT INTO touched VALUES (?)", _keys(touched))
    connection.execute(
        "WITH RECURSIVE above (ino) AS ("
        " SELECT ino FROM touched"
        " UNION SELECT entry.parent FROM entry JOIN above ON entry.ino = above.ino)"
        " INSERT OR IGNORE INTO touched SELECT ino FROM above"
    )
    connection.execute(
        "UPDATE inode SET changed = ? WHERE ino IN (SELECT ino FROM touched)", (generation,)
    )
    if _has_pages(connection):
        connection.execute(
            "INSERT OR REPLACE INTO changed_name SELECT parent, name, ?"
            " FROM touched JOIN entry USING (ino)"
            " WHERE EXISTS (SELECT 1 FROM folder_page WHERE folder_page.ino = parent)",
            (generation,),
        )


def _has_pages(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM folder_page LIMIT 1").fetchone() is not None


def _record_document(
    connection: sqlite3.Connection, document: FolderDocumentRow, generation: int
) -> None:
    """Write down what publishing learned about a folder as it was in that generation."""
    ino = document.ino
    found = connection.execute(
        "SELECT changed, EXISTS (SELECT 1 FROM folder_page WHERE folder_page.ino = inode.ino)"
        " FROM inode WHERE ino = ?",
        (ino,),
    ).fetchone()
    if found is None:
        return  # it has gone from the journal while it was being published
    changed, had_pages = found
    reference = str(document.reference) if document.reference else None
    connection.execute(
        "INSERT OR REPLACE INTO folder_document VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *(ino, generation, document.json_bytes, document.levels, reference),
            *(document.files, document.bytes),
        ),
    )
    if document.pages is None:
        return
    # What changed since then was noted only if there were pages already.
    is_followed = had_pages or changed <= generation
    pages = document.pages if is_followed else ()
    connection.execute("DELETE FROM folder_page WHERE ino = ?", (ino,))
    connection.executemany(
        "INSERT INTO folder_page VALUES (?, ?, ?, ?, ?, ?)",
        ((ino, page.first, page.starts_run, page.names, page.weight, page.url) for page in pages),
    )
    connection.execute(
        "DELETE FROM changed_name WHERE parent = ? AND generation <= ?",
        (ino, generation if pages else _EVER),
    )


def _keys(inos: Iterable[int]) -> Iterator[tuple[int]]:
    return ((ino,) for ino in inos)


def _inode_row(inode: Inode) -> tuple[object, ...]:
    return (
        inode.ino,
        inode.mode,
        inode.uid,
        inode.gid,
        inode.size,
        inode.nlink,
        inode.rdev,
        inode.atime_ns,
        inode.mtime_ns,
        inode.ctime_ns,
        inode.parent,
        inode.target,
    )


def extent_row(ino: int, extent: Extent) -> tuple[object, ...]:
    """Return the row of table extent for an extent whose bytes are durable."""
    piece = extent.piece
    where: tuple[object, ...]
    if piece.chunk is not None:
        where = (piece.chunk.id, piece.chunk.suite, piece.chunk.key, None, None)
    else:
        assert piece.log is not None, "an extent is committed after its bytes are durable"
        where = (None, None, None, piece.log.segment, piece.log.position)
    return (ino, extent.offset, extent.length, extent.skip, piece.length, *where)

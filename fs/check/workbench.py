"""What a repair works with: the journal in one transaction, `lost+found`, and notes."""

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from typing_extensions import Buffer

from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.sealing import Sealer
from libernet.blocks.store import Store
from libernet.fs.check.paths import Paths
from libernet.fs.content import Extent, Piece
from libernet.fs.datalog import LogReader
from libernet.fs.inode import ROOT_INO
from libernet.fs.journal import extent_row
from libernet.fs.journal_reader import EXTENT_COLUMNS

LOST_AND_FOUND = b"lost+found"

_FOLDER_MODE = stat.S_IFDIR | 0o700
_FILE_MODE = stat.S_IFREG | 0o600  # what is found again is nobody else's business


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that a repair did: *where*, as a finding has it, and in words."""

    where: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.where}: {self.sentence}"


class Workbench:
    """The journal under repair.

    State
      keeps     whether the store may be added to: a dry run adds nothing
      deeds     what was done so far
      removed   what no table has a place for any more, in words, for the report
      touched   inodes at or below which something changed: they are published again
      next_ino  never given out yet
    Everything here is one transaction of *connection*, which the caller begins and ends.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        store: Store,
        log: LogReader,
        sealer: Sealer,
        *,
        keeps: bool,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._connection = connection
        self._sealer = sealer
        self.keeps = keeps
        self.store = store
        self.log = log
        self.paths = Paths(self.rows)
        self.now_ns = clock()
        self.deeds: list[Deed] = []
        self.removed: list[str] = []
        self.touched: set[int] = set()
        self.next_ino = 0

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement and return the rows that it finds."""
        return self._connection.execute(statement, values).fetchall()

    def did(self, where: str, sentence: str, *inos: int) -> None:
        """Note a deed, which changed something at or below *inos*."""
        self.deeds.append(Deed(where, sentence))
        self.touched.update(inos)

    def took_out(self, table: str, row: tuple[Any, ...], where: str, sentence: str) -> None:
        """Note that a row was taken out of its table, and what stood in it."""
        self.removed.append(f"{where}: {sentence}. Table {table}: {row!r}")
        self.did(where, f"{sentence}: taken out, and kept in the report in lost+found")

    def owner(self) -> tuple[int, int]:
        """Return the owner of `backups/`, or of this process where that is not known."""
        known = self.rows(
            "SELECT uid, gid FROM inode WHERE ino = ? AND typeof(uid) = 'integer' AND"
            " typeof(gid) = 'integer' AND uid BETWEEN 0 AND 4294967295"
            " AND gid BETWEEN 0 AND 4294967295",
            ROOT_INO,
        )
        uid, gid = known[0] if known else (os.getuid(), os.getgid())
        return uid, gid

    def new_ino(self) -> int:
        """Return an inode number that was never used."""
        self.next_ino += 1
        return self.next_ino - 1

    def make(self, ino: int, *, folder: bool = False, parent: int = 0, size: int = 0) -> None:
        """Make an inode that nobody but its owner may use; whoever counts links counts its."""
        mode = _FOLDER_MODE if folder else _FILE_MODE
        now = self.now_ns
        self.rows(
            "INSERT INTO inode (ino, mode, uid, gid, size, nlink, rdev, atime_ns, mtime_ns,"
            " ctime_ns, parent, target) VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, x'')",
            *(ino, mode, *self.owner(), size, 2 if folder else 1, now, now, now, parent),
        )
        self.touched.add(ino)

    def lost_and_found(self, backup: int | None) -> int:
        """Return the folder `lost+found` of a backup, or the backup of that name."""
        above = ROOT_INO if backup is None else backup
        name = LOST_AND_FOUND
        while found := self.rows(
            "SELECT entry.ino, mode FROM entry LEFT JOIN inode USING (ino)"
            " WHERE entry.parent = ? AND name = ?",
            *(above, name),
        ):
            ino, mode = found[0]
            if isinstance(mode, int) and stat.S_ISDIR(mode):
                return int(ino)
            name += b"."  # something else has that name
        ino = self.new_ino()
        self.make(ino, folder=True, parent=above)
        self.put_name(above, name, ino)
        self._count_folder(above)
        return ino

    def put_name(self, parent: int, name: bytes, ino: int) -> bytes:
        """Let *name*, with a number behind it where it is taken, lead to *ino*; return it."""
        free, count = name, 1
        while self.rows("SELECT 1 FROM entry WHERE parent = ? AND name = ?", parent, free):
            count += 1
            free = b"%s.%d" % (name[:240], count)
        self.rows("INSERT INTO entry VALUES (?, ?, ?)", parent, free, ino)
        self.touched.update((parent, ino))
        return free

    def found_again(self, ino: int, name: bytes, *, backup: int | None, sentence: str) -> None:
        """Give an inode, which no path leads to, a name in `lost+found`."""
        folder = self.lost_and_found(backup)
        free = self.put_name(folder, name, ino)
        if self.rows("SELECT 1 FROM inode WHERE ino = ? AND (mode & 61440) = 16384", ino):
            self.rows("UPDATE inode SET parent = ? WHERE ino = ?", folder, ino)
            self._count_folder(folder)
        self.did(self.paths.of_name(folder, free), sentence)

    def _count_folder(self, folder: int) -> None:
        """Count one more folder in *folder*; if the count was wrong it is counted anew later."""
        self.rows("UPDATE inode SET nlink = nlink + 1 WHERE ino = ?", folder)

    def backup_of(self, ino: int) -> int | None:
        """Return the backup that an inode stands in, None where no path tells."""
        at, seen = ino, set[int]()
        while at not in seen:
            seen.add(at)
            above = self.rows("SELECT parent FROM entry WHERE ino = ? LIMIT 1", at)
            if not above:
                return None
            if above[0][0] == ROOT_INO:
                return at
            at = above[0][0]
        return None

    def put_extents(self, ino: int, extents: list[Extent]) -> None:
        """Let a file consist of *extents* and nothing else."""
        self.rows("DELETE FROM extent WHERE ino = ?", ino)
        for extent in extents:
            self.rows(
                f"INSERT INTO extent (ino, {EXTENT_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)",
                *extent_row(ino, extent),
            )
        self.touched.add(ino)

    def keep_bytes(self, content: Buffer, name: bytes, *, backup: int | None, what: str) -> None:
        """Keep *content* as a file in `lost+found`."""
        view = memoryview(content).cast("B")
        extents = []
        for start in range(0, len(view), MAX_CHUNK_BYTES):
            part = view[start : start + MAX_CHUNK_BYTES]
            reference, block = self._sealer.seal(part)
            if self.keeps:
                self.store.put(reference.id, block)
            extents.append(Extent(start, len(part), Piece(len(part), chunk=reference)))
        ino = self.new_ino()
        self.make(ino, size=len(view))
        self.put_extents(ino, extents)
        self.found_again(ino, name, backup=backup, sentence=what)

    def keep_report(self) -> None:
        """Keep what was taken out of the tables as a report in the backup `lost+found`."""
        if self.removed:
            stamp = time.strftime("%Y-%m-%dT%H.%M.%SZ", time.gmtime(self.now_ns // 10**9))
            text = "\n".join([*self.removed, ""]).encode(errors="surrogateescape")
            name = f"report-{stamp}.txt".encode()
            self.keep_bytes(text, name, backup=None, what="what was taken out is told here")

"""Which file of this machine each file of a backup was read from, and in what state: a cache.

A row is believed only while both files are still as they were, so a row that is gone, or of a
state that a crash undid, costs reading the file once more and nothing else.
"""

import hashlib
import os
import sqlite3
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_VERSION = 1
_MARK = struct.Struct("=QQqqq")
_ASKED_AT_ONCE = 500


def mark_of(status: os.stat_result, ctime_ns: int) -> int:
    """Return a number that stands for a file here and the copy whose inode changed at *ctime_ns*.

    It is another one when the file's inode, size or times are others, or when anything was done to
    the copy since.
    """
    packed = _MARK.pack(
        status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, ctime_ns
    )
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), signed=True)


class Origins:
    """Marks by the copies' inodes. Damaged, or written by another version, it begins anew."""

    def __init__(self, path: Path) -> None:
        self._connection = _opened(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def marks(self, inos: Sequence[int]) -> dict[int, int]:
        """Return those that are known. One thread at a time asks or puts."""
        found: dict[int, int] = {}
        for first in range(0, len(inos), _ASKED_AT_ONCE):
            asked = inos[first : first + _ASKED_AT_ONCE]
            places = ",".join("?" * len(asked))
            query = f"SELECT ino, mark FROM origin WHERE ino IN ({places})"
            found.update(self._connection.execute(query, asked))
        return found

    def put(self, marks: Mapping[int, int], gone: Iterable[int] = ()) -> None:
        """Remember marks, and forget those of inodes that are *gone*."""
        with self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany(
                "INSERT OR REPLACE INTO origin VALUES (?, ?)", marks.items()
            )
            self._connection.executemany(
                "DELETE FROM origin WHERE ino = ?", ((ino,) for ino in gone)
            )


class DryOrigins(Origins):
    """Know what *origins* do, and remember nothing."""

    def __init__(self, origins: Origins) -> None:
        self._connection = origins._connection

    def put(self, marks: Mapping[int, int], gone: Iterable[int] = ()) -> None:
        pass


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return _prepared(path)
    except sqlite3.DatabaseError:
        for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            each.unlink(missing_ok=True)
        return _prepared(path)


def _prepared(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a crash may lose what came last
        if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            connection.executescript(
                "BEGIN; DROP TABLE IF EXISTS origin;"
                "CREATE TABLE origin (ino INTEGER PRIMARY KEY, mark INTEGER NOT NULL);"
                f"PRAGMA user_version = {_VERSION}; COMMIT;"
            )
    except BaseException:
        connection.close()
        raise
    return connection

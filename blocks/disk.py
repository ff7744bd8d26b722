"""What the disk does: its errors as those of the store, and folders made durable."""

import errno
import os
import sqlite3
from pathlib import Path

from libernet.blocks.errors import StoreError, StoreFull

_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)

_FULL_SQLITE_CODES = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_SHMSIZE,  # no room to grow the index of its write-ahead log
)


def store_error(exc: OSError | sqlite3.Error, what: str | Path) -> StoreError:
    """Return the error of the store's own that says what *exc* means for *what*."""
    if isinstance(exc, OSError):
        full = exc.errno in _FULL_ERRNOS
    else:
        full = getattr(exc, "sqlite_errorcode", None) in _FULL_SQLITE_CODES
    if full:
        return StoreFull(f"no space is left for {what}: free some on its disk")
    return StoreError(f"{what}: {exc}")


def sync_folder(folder: str | Path) -> None:
    """Return when the names in *folder* are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

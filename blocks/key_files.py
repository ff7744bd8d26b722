"""Files of 32 random bytes that nobody but their owner may read, made once and kept for good."""

import os
import secrets
import stat
import tempfile
from pathlib import Path

from libernet.blocks.disk import sync_folder
from libernet.blocks.errors import StoreError

KEY_BYTES = 32

# Group and others: nobody but the owner may read, write or run.
_FOREIGN_MODE_BITS = 0o077


def load_or_create_key(path: Path, *, name: str, if_lost: str) -> bytes:
    """Return the bytes kept in the file *path*, made there first if there is none.

    When this returns they are on disk, whole and under that name. Of two processes that make them
    at the same time, both get those that came first. Raises StoreError, which calls the file
    *name* and says what to do, for a file that others can read or that is of another size, and
    where the file cannot be used; *if_lost* says what follows from moving a wrong one away.
    """
    try:
        try:
            key = _load(path, name, if_lost)
        except FileNotFoundError:
            _create(path)
            key = _load(path, name, if_lost)
        # Also after a mere load: who made the file may have died before this.
        sync_folder(path.parent)
    except OSError as exc:
        raise StoreError(f"the {name} {path} cannot be read or made: {exc.strerror}") from exc
    return key


def _load(path: Path, name: str, if_lost: str) -> bytes:
    # Without O_NONBLOCK a named pipe put here would hang the start.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check_file(f"the {name} {path}", os.fstat(descriptor), path, if_lost)
        return os.read(descriptor, KEY_BYTES)
    finally:
        os.close(descriptor)


def _check_file(file: str, found: os.stat_result, path: Path, if_lost: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{file} is not a regular file. Put the right one back")
    if found.st_mode & _FOREIGN_MODE_BITS:
        raise StoreError(
            f"{file} is open to others (mode {stat.S_IMODE(found.st_mode):04o})."
            f" If nobody else can have read it: chmod 600 {path}"
        )
    if found.st_size != KEY_BYTES:
        raise StoreError(
            f"{file} has {found.st_size} bytes instead of {KEY_BYTES}. Put the right"
            f" file back. Without it, move this one away: {if_lost}"
        )


def _create(path: Path) -> None:
    """Put new random bytes at *path* unless a file is there already; only a whole one appears."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        # A link, since a rename would replace the key of a process that was quicker.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)

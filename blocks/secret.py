"""The convergence secret: 32 random bytes that make the blocks of one account its own."""

import os
import secrets
import stat
import tempfile
from pathlib import Path

from libernet.blocks.disk import sync_folder
from libernet.blocks.errors import StoreError

SECRET_BYTES = 32

# Group and others: nobody but the owner may read, write or run.
_FOREIGN_MODE_BITS = 0o077


def load_or_create_secret(path: Path) -> bytes:
    """Return the secret kept in the file *path*, made there first if there is none.

    When this returns the secret is on disk, whole and under its name. Of two processes that make
    one at the same time, both get the one that came first. Raises StoreError, with what to do,
    for a file that others can read or that is no secret, and where the file cannot be used.
    """
    try:
        try:
            secret = _load(path)
        except FileNotFoundError:
            _create(path)
            secret = _load(path)
        # Also after a mere load: who made the file may have died before this.
        sync_folder(path.parent)
    except OSError as exc:
        raise StoreError(f"the secret {path} cannot be read or made: {exc.strerror}") from exc
    return secret


def _load(path: Path) -> bytes:
    # Without O_NONBLOCK a named pipe put here would hang the start.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check_file(path, os.fstat(descriptor))
        return os.read(descriptor, SECRET_BYTES)
    finally:
        os.close(descriptor)


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"the secret {path} is not a regular file. Put the right one back")
    if found.st_mode & _FOREIGN_MODE_BITS:
        raise StoreError(
            f"the secret {path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})."
            f" If nobody else can have read it: chmod 600 {path}"
        )
    if found.st_size != SECRET_BYTES:
        raise StoreError(
            f"the secret {path} has {found.st_size} bytes instead of {SECRET_BYTES}. Put the right"
            " file back. Without it, move this one away: a new secret is made, what is stored"
            " stays readable, but equal files are stored once more"
        )


def _create(path: Path) -> None:
    """Put a new secret at *path* unless a file is there already; only a whole one appears."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(descriptor)
        # A link, since a rename would replace the secret of a process that was quicker.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)

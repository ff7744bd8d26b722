"""Room on the disk that a node keeps for its own next start.

Opening a journal and a store writes a little, and so does removing files. On a disk that others
have filled to the last byte a node that was killed could not start, and nobody could remove
anything in it.
"""

import contextlib
import os
from pathlib import Path

_BYTES = 16 * 1024 * 1024
_PART_OF_DISK = 16  # at most so much of a small one
_BESIDE = 4  # so many times as much must be free before any is taken


def drop_ballast(folder: Path) -> None:
    """Give the room back, at a start."""
    (folder / "ballast").unlink(missing_ok=True)


def take_ballast(folder: Path) -> None:
    """Take the room for the start after this one, if there is plenty."""
    disk = os.statvfs(folder)
    size_bytes = min(_BYTES, disk.f_blocks * disk.f_frsize // _PART_OF_DISK)
    if disk.f_bavail * disk.f_frsize < _BESIDE * size_bytes:
        return
    path = folder / "ballast"
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
    except OSError:  # a quota, or a file system that cannot: then without
        with contextlib.suppress(OSError):
            path.unlink()

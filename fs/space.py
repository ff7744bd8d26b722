"""Whether there is room on the disk for what is accepted."""

import errno
import os
from pathlib import Path

from libernet.fs.tree import os_error

_RESERVE_BYTES = 32 * 1024 * 1024
"""Kept free for the journal and the documents, so that what was accepted can be committed."""

_CHECK_EVERY_BYTES = 256 * 1024

_AVAILABLE = 4  # the place of f_bavail in what statvfs returns


class Space:
    """Refuse what the disk under the state folder could not take.

    State
      _unchecked   bytes accepted since the disk was asked last
      is_full      whether a commit failed for want of space; set until one succeeds
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unchecked = _CHECK_EVERY_BYTES
        self.is_full = False

    def take(self, count: int, pending_bytes: int) -> None:
        """Accept *count* more bytes beside *pending_bytes* not stored yet, or raise ENOSPC."""
        if self.is_full:
            raise os_error(errno.ENOSPC)
        self._unchecked += count
        if self._unchecked < _CHECK_EVERY_BYTES:
            return
        disk = self._statistics()
        if disk.f_bavail * disk.f_frsize < _reserve_bytes(disk) + pending_bytes + count:
            raise os_error(errno.ENOSPC)
        self._unchecked = 0

    def shown(self, pending_bytes: int) -> os.statvfs_result:
        """Return what statvfs says of the disk, available being what take() would accept."""
        disk = self._statistics()
        held = -(-(_reserve_bytes(disk) + pending_bytes) // disk.f_frsize)
        fields = list(disk)
        fields[_AVAILABLE] = 0 if self.is_full else max(0, disk.f_bavail - held)
        return os.statvfs_result(fields)

    def _statistics(self) -> os.statvfs_result:
        """Return what statvfs says of the disk; EIO when it is not to be had any more."""
        try:
            return os.statvfs(self._folder)
        except OSError as exc:
            # Whatever is wrong down there, it is not what the caller's own path met.
            raise os_error(errno.EIO) from exc


def _reserve_bytes(disk: os.statvfs_result) -> int:
    return min(_RESERVE_BYTES, disk.f_blocks * disk.f_frsize // 8)

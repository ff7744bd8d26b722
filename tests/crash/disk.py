"""A small ext4 disk in a file, whose power can be cut and which can be filled."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from libernet.fs.mount_table import mount_at
from tests.crash.witness import kill
from tests.support.node import Node

_EXT4_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
_SECONDS = 60


class Disk:
    """An ext4 file system on a loop device; needs root.

    State: is_mounted.
    """

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.mountpoint = folder / "disk"
        self._image = folder / "disk.ext4"
        self.is_mounted = False
        self.mountpoint.mkdir()
        with self._image.open("wb") as image:
            image.truncate(size_bytes)
        command = ["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0", str(self._image)]
        subprocess.run(command, check=True, timeout=_SECONDS)

    def mount(self) -> None:
        """Mount the disk; ext4 recovers from its journal where the last end was none."""
        command = ["mount", "-o", "loop", str(self._image), str(self.mountpoint)]
        outcome = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        if outcome.returncode != 0:
            pytest.skip(f"a loop device cannot be mounted here: {outcome.stderr.strip()}")
        self.is_mounted = True

    def unmount(self) -> None:
        """Unmount the disk, which frees its loop device too."""
        subprocess.run(["umount", self.mountpoint], check=True, timeout=_SECONDS)
        self.is_mounted = False

    def cut_power(self) -> None:
        """Let nothing that is not on the disk yet come there."""
        folder = os.open(self.mountpoint, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _EXT4_SHUTDOWN, _NO_LOG_FLUSH.to_bytes(4, sys.byteorder))
        finally:
            os.close(folder)

    def fill(self, name: str, *, leave_bytes: int) -> Path:
        """Let a file take all the room but about *leave_bytes*, and return it.

        It grows by pieces, because others may go on writing meanwhile.
        """
        ballast = self.mountpoint / name
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            length = 0
            for piece_bytes in (1 << 23, 1 << 20, 1 << 15):
                while self.free_bytes() - leave_bytes >= piece_bytes:
                    os.posix_fallocate(file.fileno(), length, piece_bytes)
                    length += piece_bytes
        return ballast

    def free_bytes(self) -> int:
        found = os.statvfs(self.mountpoint)
        return found.f_bavail * found.f_frsize


@contextlib.contextmanager
def mounted_disk(folder: Path, size_bytes: int) -> Iterator[Disk]:
    """Make a disk in *folder* and mount it; at the end nothing is left mounted."""
    if os.geteuid() != 0:
        pytest.skip("a disk in a file needs root")
    for tool in ("mkfs.ext4", "losetup"):
        if shutil.which(tool) is None:
            pytest.skip(f"a disk in a file needs {tool}")
    made = Disk(folder, size_bytes)
    made.mount()
    try:
        yield made
    finally:
        if made.is_mounted:
            made.unmount()


@contextlib.contextmanager
def node_on(disk: Disk, folder: Path) -> Iterator[Node]:
    """Make a node with its state folder on *disk*, and its mount point in the new *folder*."""
    node = Node(folder)
    node.state = disk.mountpoint / "state"
    node.log_file = node.state / "libernet.log"
    try:
        yield node
    finally:
        kill(node)
        while mount_at(node.mountpoint):
            subprocess.run(["umount", "-i", "-l", node.mountpoint], check=True, timeout=_SECONDS)

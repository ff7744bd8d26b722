"""What is mounted where, read from /proc without touching the mounts themselves.

A stat() of a mount whose process hangs would hang too, so everything that asks about a mount
point asks here first. The format is that of proc_pid_mountinfo(5).
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

FUSE_TYPE = "fuse.libernet"

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table."""

    mountpoint: Path
    type: str
    source: str
    device: str
    """Major and minor number, MAJOR:MINOR."""
    root: Path
    """What of that file system is mounted: / is all of it."""

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Return the mount that a line of mountinfo describes."""
        left, _, right = line.partition(b" - ")
        type_, source = right.split()[:2]
        _, _, device, root, mountpoint = left.split()[:5]
        return cls(
            Path(_plain(mountpoint)),
            _plain(type_),
            _plain(source),
            device.decode(),
            Path(_plain(root)),
        )


def mounts(process: int | str = "self") -> list[Mount]:
    """Return the mounts that *process* sees, oldest first. Raises OSError when it has gone."""
    with open(f"/proc/{process}/mountinfo", "rb") as table:
        return [Mount.parse(line) for line in table]


def mount_at(mountpoint: Path, process: int | str = "self") -> Mount | None:
    """Return the topmost mount on *mountpoint*, as `resolved` gives it, or None."""
    found = [mount for mount in mounts(process) if mount.mountpoint == mountpoint]
    return found[-1] if found else None


def resolved(mountpoint: Path) -> Path:
    """Return *mountpoint* absolute and without symbolic links, as the mount table names it.

    The last part is looked at only when nothing is mounted there.
    """
    absolute = Path(os.path.abspath(mountpoint))
    candidate = Path(os.path.realpath(absolute.parent), absolute.name)
    if mount_at(candidate):
        return candidate
    return Path(os.path.realpath(candidate))


def _plain(field: bytes) -> str:
    """Return *field* with the kernel's octal escapes (space, tab, newline, backslash) undone."""
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field))

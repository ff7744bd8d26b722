"""What of this machine the process behind a mount must not look at, or let into a backup."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from libernet.blocks.errors import LibernetError
from libernet.fs.mount_table import FUSE_TYPE, Mount, mounts

_KEYS = ("secret", "node.key")


@dataclass(frozen=True, slots=True)
class OwnPlaces:
    """Know mounts of Libernet, and the state folder with what this node keeps, secrets too.

    State
      mounts    where a Libernet is mounted: who waits for its own mount may wait for ever, so not
                even stat may be asked about them
      folders   the state folder, and where it or something in it is mounted once more
      inodes    device and inode of the state folder, of the folders in it and of its keys: what is
                mounted in another namespace has them too. Other files come and go, and somebody's
                own may get their inodes
    """

    mounts: frozenset[bytes]
    folders: frozenset[bytes]
    inodes: frozenset[tuple[int, int]]

    @classmethod
    def around(cls, state: Path) -> Self:
        """Return what is Libernet's own while a node keeps the folder *state*."""
        real = Path(os.path.realpath(state))
        table = mounts()
        return cls(
            frozenset(os.fsencode(each.mountpoint) for each in table if each.type == FUSE_TYPE),
            frozenset(map(os.fsencode, [real, *_mounted_again(real, table)])),
            _lasting_inodes(real),
        )

    def has(self, path: bytes, status: os.stat_result) -> bool:
        """Return whether what stands at an absolute path is the node's own, if it is no mount."""
        return path in self.folders or (status.st_dev, status.st_ino) in self.inodes

    def names(self, path: bytes) -> bool:
        """Return whether an absolute path is that of a mount or folder of Libernet's."""
        return path in self.mounts or path in self.folders

    def refuse(self, path: bytes) -> None:
        """Raise LibernetError for an absolute path, without links, that is or is in one of them."""
        above = path
        while not self.names(above):
            if os.path.dirname(above) == above:
                return
            above = os.path.dirname(above)
        raise LibernetError(
            f"{os.fsdecode(path)!r} is in {os.fsdecode(above)!r}, which is Libernet's own"
        )


def _mounted_again(state: Path, table: list[Mount]) -> list[Path]:
    """Return where *state*, or something in it, is mounted as well."""
    above = [each for each in table if state.is_relative_to(each.mountpoint)]
    if not above:
        return []  # in a chroot that is no mount, the table says nothing of what is above
    below = max(reversed(above), key=lambda each: len(each.mountpoint.parts))
    kept = below.root / state.relative_to(below.mountpoint)
    return [
        each.mountpoint
        for each in table
        if each.device == below.device and each.root.is_relative_to(kept)
    ]


def _lasting_inodes(state: Path) -> frozenset[tuple[int, int]]:
    with os.scandir(state) as entries:
        lasting = [each.path for each in entries if each.is_dir() or each.name in _KEYS]
    looked_at = [os.stat(state), *(os.stat(path) for path in lasting)]
    return frozenset((each.st_dev, each.st_ino) for each in looked_at)

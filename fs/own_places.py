"""The paths of this machine that the process behind a mount must not look at."""

import os
from pathlib import Path

from libernet.blocks.errors import LibernetError
from libernet.fs.mount_table import FUSE_TYPE, mounts

_KEYS = ("secret", "node.key")


def own_places(state: Path) -> frozenset[bytes]:
    """Return mounts of Libernet, and the folder *state* with what this node keeps.

    A process that waits for its own mount may wait for ever.
    """
    mounted = [each.mountpoint for each in mounts() if each.type == FUSE_TYPE]
    return frozenset(os.fsencode(each) for each in [*mounted, Path(os.path.realpath(state))])


def own_inodes(state: Path) -> frozenset[tuple[int, int]]:
    """Return device and inode of the folder *state*, of the folders in it and of its keys.

    Mounted elsewhere as well, they have other paths: the secret must get into no backup. Other
    files come and go, and somebody's own may get their inodes.
    """
    with os.scandir(state) as entries:
        lasting = [each.path for each in entries if each.is_dir() or each.name in _KEYS]
    looked_at = [os.stat(state), *(os.stat(path) for path in lasting)]
    return frozenset((each.st_dev, each.st_ino) for each in looked_at)


def refuse_own(path: bytes, own: frozenset[bytes]) -> None:
    """Raise LibernetError for an absolute path, without links, that is one of *own* or in one."""
    above = path
    while above not in own:
        if os.path.dirname(above) == above:
            return
        above = os.path.dirname(above)
    raise LibernetError(
        f"{os.fsdecode(path)!r} is in {os.fsdecode(above)!r}, which is Libernet's own"
    )

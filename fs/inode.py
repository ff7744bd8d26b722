"""What the tree knows of one file, folder or link: a value, replaced whole at every change."""

import stat

import msgspec

ROOT_INO = 2
"""The inode of `backups/` itself; 1 is the root of the mount."""

FIRST_INO = 1000
"""The first inode number given to what a person makes."""


class Inode(msgspec.Struct, frozen=True, gc=False):
    """The attributes of one inode of the backups.

    Times are nanoseconds since 1970. `parent` is the folder that a folder stands in and 0 for
    everything else; `target` is the text of a symbolic link. `nlink` 0 marks an inode without a
    name that is still open, or that the kernel has not forgotten yet. Most have no extended
    attributes: `has_xattrs` spares looking for them, as the kernel asks at every write.
    """

    ino: int
    mode: int
    uid: int
    gid: int
    size: int
    nlink: int
    rdev: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    parent: int = 0
    target: bytes = b""
    has_xattrs: bool = False

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

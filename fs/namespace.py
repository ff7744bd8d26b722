"""What the tree looks like: the one object that every view (FUSE, the web) asks.

Numbers below FIRST_VIEW_INO, but for the root's, are inodes of the backups; the others are nodes
of the read-only part.
"""

import errno
import os
import stat
from collections.abc import Sequence
from typing import Protocol

from libernet.fs.ahead import Reading
from libernet.fs.backups import Backups
from libernet.fs.chunks import MAX_AHEAD_BYTES
from libernet.fs.inode import ROOT_INO, Inode
from libernet.fs.node_numbers import FIRST_VIEW_INO, NodeNumbers
from libernet.fs.nodes import FileNode, FolderNode, LinkNode, Node
from libernet.fs.open_content import OpenContent
from libernet.fs.reports import Reports, of_node
from libernet.fs.tree import Changes, NewInode, os_error
from libernet.fs.xattrs import RESERVED, check_namespace, shown_names

MOUNT_INO = 1
"""The number of the folder that is mounted."""

BACKUPS_NAME = b"backups"

_AHEAD_BYTES = 16 * 1024 * 1024  # chunks unsealed before a sequential reader comes to them
_AHEAD_AFTER_READS = 2


class Stat(Protocol):
    """What stat shows of anything in the tree."""

    @property
    def mode(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def nlink(self) -> int: ...
    @property
    def rdev(self) -> int: ...
    @property
    def atime_ns(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def ctime_ns(self) -> int: ...


class Entry:
    """A number of the tree with what stat shows of it; `is_lasting` when a view may keep it.

    *stored_bytes* of it are in no hole.
    """

    __slots__ = ("ino", "is_lasting", "look", "stored_bytes")

    def __init__(self, ino: int, look: Stat, stored_bytes: int, *, is_lasting: bool = True) -> None:
        self.ino = ino
        self.look = look
        self.stored_bytes = stored_bytes
        self.is_lasting = is_lasting


class OpenFile:
    """A handle: the content or node behind it, and how far it was read in sequence.

    *reading* has what is loaded because of that.
    """

    __slots__ = ("_expected", "_reads", "file", "reading")

    def __init__(self, file: OpenContent | FileNode) -> None:
        self.file = file
        self._expected = 0
        self._reads = 0
        self.reading = Reading()

    def reads_on(self, offset: int, size: int) -> bool:
        """Note a read and return whether it goes on from the ones before.

        What was loaded for one that went far away is given up; not so near by, since the kernel's
        requests may come in another order.
        """
        if abs(offset - self._expected) > MAX_AHEAD_BYTES:
            self.reading.give_up()
        self._reads = self._reads + 1 if offset == self._expected else 0
        self._expected = offset + size
        return self._reads >= _AHEAD_AFTER_READS


class Namespace:
    """Everything that can be done to the tree, by number and name.

    Whoever gets an Entry from lookup, make, create, link or give() has been given its number once
    more, and says so with forget() when it needs it no longer. Errors are OSErrors for what a
    caller did or meets, and LibernetErrors for what went wrong below.
    """

    def __init__(self, backups: Backups, nodes: NodeNumbers, reports: Reports) -> None:
        self._backups = backups
        self._nodes = nodes
        self._reports = reports

    async def lookup(self, parent: int, name: bytes) -> Entry:
        """Return what *name* in a folder leads to; FileNotFoundError if nothing."""
        if self._is_backup(parent):
            return self.enter(parent, name, self._backups.lookup(parent, name))
        if (parent, name) == (MOUNT_INO, BACKUPS_NAME):
            return self.enter(parent, name, self._backups.inode(ROOT_INO))
        return self.enter(parent, name, await (await self._folder(parent)).lookup(name))

    def stays_absent(self, parent: int) -> bool:
        """Return whether a name that leads to nothing does so until this object changes it."""
        return self._is_backup(parent)

    async def stat(self, ino: int) -> Entry:
        """Return how something looks now."""
        if self._is_backup(ino):
            return self._entry(self._backups.inode(ino))
        return _node_entry(ino, await self._nodes.node(ino))

    async def children(
        self, ino: int, after: bytes, limit: int
    ) -> Sequence[tuple[bytes, Inode | Node]]:
        """Return up to *limit* of a folder's entries behind the name *after*, by name.

        Those that a view takes get their numbers from enter(). An Incomplete has an error that the
        view shows at the end of the folder.
        """
        if self._is_backup(ino):
            return self._backups.children(ino, after, limit)
        shown = await (await self._folder(ino)).children(after, limit)
        if ino != MOUNT_INO:
            return shown
        found: list[tuple[bytes, Inode | Node]] = list(shown)
        if after < BACKUPS_NAME:
            found.append((BACKUPS_NAME, self._backups.inode(ROOT_INO)))
            found.sort(key=lambda entry: entry[0])
        return found

    async def index(self, ino: int) -> bytes | None:
        """Return the name of the file in a folder that stands for it, None if none does."""
        return None if self._is_backup(ino) else await (await self._folder(ino)).index()

    def dots(self, ino: int) -> list[tuple[bytes, int]]:
        """Return the names that a folder has for itself and its parent; one that is gone, none."""
        if not self._is_backup(ino):
            return [(b".", ino), (b"..", self._nodes.parent(ino))]
        inode = self._backups.inode(ino)
        return [(b".", ino), (b"..", inode.parent)] if inode.nlink else []

    def enter(self, parent: int, name: bytes, found: Inode | Node) -> Entry:
        """Give the number of what *name* in a folder leads to."""
        if isinstance(found, Inode):
            self._backups.remember(found.ino)
            return self._entry(found)
        return _node_entry(self._nodes.number(parent, name, found), found)

    def forget(self, ino: int, times: int) -> None:
        """Note that a number that was given so many *times* is needed no longer."""
        if self._is_backup(ino):
            self._backups.forget(ino, times)
        else:
            self._nodes.forget(ino, times)

    async def target(self, ino: int) -> bytes:
        """Return the text of a symbolic link."""
        if self._is_backup(ino):
            inode = self._backups.inode(ino)
            if stat.S_ISLNK(inode.mode):
                return inode.target
        else:
            node = await self._nodes.node(ino)
            if isinstance(node, LinkNode):
                return node.target()
        raise os_error(errno.EINVAL)

    def make(self, parent: int, name: bytes, new: NewInode) -> Entry:
        """Make a folder, link or special file under a name that is free."""
        self._check_writable(parent)
        return self.enter(parent, name, self._backups.make(parent, name, new))

    def create(self, parent: int, name: bytes, new: NewInode) -> tuple[Entry, OpenFile]:
        """Make a file and open it; close() ends that."""
        self._check_writable(parent)
        inode, content = self._backups.create(parent, name, new)
        return self.enter(parent, name, inode), OpenFile(content)

    async def open(self, ino: int, flags: int) -> OpenFile:
        """Open a file as open(2)'s *flags* say; close() ends that."""
        if self._is_backup(ino):
            return OpenFile(await self._backups.open(ino, flags))
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise os_error(errno.EROFS)
        node = await self._nodes.node(ino)
        if not isinstance(node, FileNode):
            raise os_error(errno.ENXIO)
        return OpenFile(node)

    async def near(self, handle: OpenFile) -> bytes | memoryview | None:
        """Return all of a small file if it is on this machine, else None."""
        file = handle.file
        if isinstance(file, OpenContent):
            return await self._backups.near(file)
        return await file.near()

    def close(self, handle: OpenFile) -> None:
        """End what open() or create() began."""
        handle.reading.give_up()
        if isinstance(handle.file, OpenContent):
            self._backups.release(handle.file)

    async def read(self, handle: OpenFile, offset: int, size: int) -> bytes | memoryview:
        """Return up to *size* bytes at *offset*, fewer only at the file's end."""
        file = handle.file
        reads_on = handle.reads_on(offset, size)
        if isinstance(file, OpenContent):
            if reads_on:
                self._backups.read_ahead(file, offset + size, _AHEAD_BYTES)
            return await self._backups.read(file, offset, size)
        if reads_on:
            file.read_ahead(offset + size, _AHEAD_BYTES, handle.reading)
        return await file.read(offset, size)

    async def write(self, handle: OpenFile, offset: int, data: bytes) -> None:
        """Put *data* at *offset*; ENOSPC when there is no room for it."""
        if not isinstance(handle.file, OpenContent):
            raise os_error(errno.EROFS)
        await self._backups.write(handle.file, offset, data)

    async def set_attributes(self, ino: int, changes: Changes, size: int | None) -> Entry:
        """Change attributes and, for a file, its size."""
        self._check_writable(ino)
        return self._entry(await self._backups.set_attributes(ino, changes, size))

    async def xattr(self, ino: int, name: bytes) -> bytes | None:
        """Return the value of an extended attribute, None if there is none."""
        if name.startswith(RESERVED):
            return await self._report(ino, name)
        if self._is_backup(ino):
            return self._backups.xattr(ino, name)
        check_namespace(name)
        return await (await self._nodes.node(ino)).xattrs.value(name)

    async def _report(self, ino: int, name: bytes) -> bytes | None:
        if ino == MOUNT_INO:
            ino = ROOT_INO  # nothing else in the mount ever waits
        if self._is_backup(ino):
            return await self._reports.of_inode(ino, name)
        return of_node(await self._nodes.node(ino), name)

    async def xattr_names(self, ino: int, *, is_root: bool) -> list[bytes]:
        """Return the names of the extended attributes that a caller sees."""
        if self._is_backup(ino):
            return self._backups.xattr_names(ino, is_root=is_root)
        return shown_names((await self._nodes.node(ino)).xattrs.names(), is_root=is_root)

    async def set_xattr(self, ino: int, name: bytes, value: bytes) -> None:
        """Set an extended attribute; OSErrors as setxattr(2) has them."""
        self._check_writable(ino)
        await self._backups.set_xattr(ino, name, value)

    def remove_xattr(self, ino: int, name: bytes) -> None:
        """Remove an extended attribute, or raise ENODATA."""
        self._check_writable(ino)
        self._backups.remove_xattr(ino, name)

    def link(self, ino: int, parent: int, name: bytes) -> Entry:
        """Give an inode of a backup one more name, in the same backup."""
        self._check_writable(parent)
        if not self._is_backup(ino):
            raise os_error(errno.EXDEV)
        return self.enter(parent, name, self._backups.link(ino, parent, name))

    def unlink(self, parent: int, name: bytes) -> None:
        """Take a name from something that is no folder."""
        self._check_writable(parent)
        self._backups.unlink(parent, name)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty folder."""
        self._check_writable(parent)
        self._backups.rmdir(parent, name)

    def rename(self, old: tuple[int, bytes], new: tuple[int, bytes], flags: int) -> None:
        """Move what the name *old* (folder, name) leads to; *flags* as renameat2 has them."""
        self._check_writable(old[0])
        self._check_writable(new[0])
        self._backups.rename(old, new, flags)

    async def durable(self) -> None:
        """Return when everything that was done before is durable."""
        await self._backups.durable()

    def disk(self) -> os.statvfs_result:
        """Return what statvfs says of the disk that all this is on, and of the room left for it."""
        return self._backups.disk()

    def is_read_only(self, ino: int) -> bool:
        """Return whether nothing at or below a number can be changed."""
        return not self._is_backup(ino)

    def _entry(self, inode: Inode) -> Entry:
        return Entry(inode.ino, inode, self._backups.stored_bytes(inode))

    def _is_backup(self, ino: int) -> bool:
        return MOUNT_INO < ino < FIRST_VIEW_INO

    def _check_writable(self, ino: int) -> None:
        if not self._is_backup(ino):
            raise os_error(errno.EROFS)

    async def _folder(self, ino: int) -> FolderNode:
        node = await self._nodes.node(ino)
        if not isinstance(node, FolderNode):
            raise os_error(errno.ENOTDIR)
        return node


def _node_entry(ino: int, node: Node) -> Entry:
    return Entry(ino, node.appearance, node.stored_bytes(), is_lasting=node.is_lasting)

"""The writable part of the mount: `backups/` and all below it.

Joins the tree's names with the files' contents, and keeps what has no name any more for as long as
somebody uses it.
"""

import errno
import os
import stat
from collections.abc import Mapping

from libernet.fs.checkpoint import Checkpointer
from libernet.fs.content import Extent
from libernet.fs.files import Files
from libernet.fs.inode import ROOT_INO, Inode
from libernet.fs.open_content import OpenContent
from libernet.fs.space import Space
from libernet.fs.tree import Changes, NewInode, Tree, os_error
from libernet.fs.use_counts import UseCounts
from libernet.fs.xattrs import Xattrs

_METADATA_BYTES = 512
"""About what a new inode with its name takes in the journal."""

_PENDING_XATTR_BYTES = 8 * 1024 * 1024
"""Bytes of extended attributes in memory at which who sets more waits for a checkpoint."""


class Backups:
    """Names, attributes and contents below `backups/`.

    State
      _known   how often the view was given each inode, less what it forgot again
      _open    open handles by inode
    An inode whose last name went is dropped when both are down to nothing.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        xattrs: Xattrs,
        files: Files,
        checkpointer: Checkpointer,
        space: Space,
    ) -> None:
        self._tree = tree
        self._xattrs = xattrs
        self._files = files
        self._checkpointer = checkpointer
        self._space = space
        self._known = UseCounts()
        self._open: dict[int, int] = {}

    def inode(self, ino: int) -> Inode:
        """Return the inode; FileNotFoundError if there is none."""
        return self._tree.inode(ino)

    def lookup(self, parent: int, name: bytes) -> Inode:
        """Return what *name* leads to; FileNotFoundError if nothing."""
        return self._tree.lookup(parent, name)

    def children(self, parent: int, after: bytes, limit: int) -> list[tuple[bytes, Inode]]:
        """Return up to *limit* of a folder's entries behind the name *after*, by name."""
        return self._tree.children(parent, after, limit)

    def stored_bytes(self, inode: Inode) -> int:
        """Return how many bytes of it take room: of a file those that are in no hole."""
        return self._files.stored_bytes(inode) if inode.is_file else inode.size

    def is_known(self, ino: int) -> bool:
        """Return whether the view was given an inode, and may keep something of it."""
        return ino == ROOT_INO or ino in self._known

    def remember(self, ino: int) -> None:
        """Note that the view was given an inode once more."""
        self._known.add(ino)

    def forget(self, ino: int, count: int) -> None:
        """Note that the view forgot an inode that it was given *count* times."""
        if not self._known.take(ino, count):
            self._drop_if_unused(ino)

    def make(self, parent: int, name: bytes, new: NewInode) -> Inode:
        """Make a file, folder, link or special file under a name that is free."""
        self._space.take(_METADATA_BYTES, self._files.memory_bytes)
        return self._tree.make(parent, name, new)

    def create(self, parent: int, name: bytes, new: NewInode) -> tuple[Inode, OpenContent]:
        """Make a file and open it."""
        inode = self.make(parent, name, new)
        self._open[inode.ino] = self._open.get(inode.ino, 0) + 1
        return inode, self._files.open(inode.ino)

    async def open(self, ino: int, flags: int) -> OpenContent:
        """Open a file as open(2)'s *flags* say; release() ends it."""
        inode = self._tree.inode(ino)
        if not inode.is_file:
            raise os_error(errno.EISDIR if inode.is_folder else errno.ENXIO)
        if flags & os.O_TRUNC:
            await self._files.truncate(ino, 0)
        self._open[ino] = self._open.get(ino, 0) + 1
        return self._files.open(ino)

    def release(self, content: OpenContent) -> None:
        """End what open() or create() began."""
        self._files.release(content)
        self._open[content.ino] -= 1
        if not self._open[content.ino]:
            del self._open[content.ino]
            self._drop_if_unused(content.ino)

    async def read(self, content: OpenContent, offset: int, size: int) -> bytes | memoryview:
        """Return up to *size* bytes at *offset*, fewer only at the file's end."""
        return await self._files.read(content, offset, size)

    async def near(self, content: OpenContent) -> bytes | memoryview | None:
        """Return all of a file; None where that is not on this machine."""
        return await self._files.read(content, 0, self._tree.inode(content.ino).size)

    def read_ahead(self, content: OpenContent, offset: int, length: int) -> None:
        """Start to unseal what a reader will come to next."""
        self._files.read_ahead(content, offset, length)

    async def write(self, content: OpenContent, offset: int, data: bytes) -> None:
        """Put *data* at *offset*; ENOSPC when there is no room for it."""
        await self._files.write(content, offset, data)

    async def set_attributes(self, ino: int, changes: Changes, size: int | None) -> Inode:
        """Change attributes and, for a file, its size."""
        if size is not None:
            inode = self._tree.inode(ino)
            if inode.is_folder:
                raise os_error(errno.EISDIR)
            if not stat.S_ISREG(inode.mode):
                raise os_error(errno.EINVAL)
            await self._files.truncate(ino, size)
        if changes != Changes():
            return self._tree.set_attributes(ino, changes)
        return self._tree.inode(ino)

    def replace_attributes(
        self, ino: int, changes: Changes, xattrs: Mapping[bytes, bytes]
    ) -> tuple[Inode, list[bytes]]:
        """Change attributes, and let *xattrs* be all extended ones; return those that cannot be."""
        self._space.take(_METADATA_BYTES, self._files.memory_bytes)
        refused = self._xattrs.replace(ino, xattrs)
        return self._tree.set_attributes(ino, changes), refused

    def put_chunks(self, ino: int, size: int, extents: list[Extent]) -> None:
        """Let a file of *size* bytes consist of chunks that are in the store, and of holes."""
        self._files.put_chunks(ino, size, extents)

    def xattrs(self, ino: int) -> Mapping[bytes, bytes]:
        """Return all extended attributes of an inode by name."""
        return self._xattrs.all(ino)

    def xattr(self, ino: int, name: bytes) -> bytes | None:
        """Return the value of an extended attribute, None if there is none."""
        return self._xattrs.get(ino, name)

    def xattr_names(self, ino: int, *, is_root: bool) -> list[bytes]:
        """Return the names of the extended attributes that a caller sees."""
        return self._xattrs.names(ino, is_root=is_root)

    async def set_xattr(self, ino: int, name: bytes, value: bytes) -> None:
        """Set an extended attribute; ENOSPC when there is no room for it."""
        while self._xattrs.pending_bytes > _PENDING_XATTR_BYTES:
            await self._checkpointer.durable()
        self._space.take(_METADATA_BYTES + len(name) + len(value), self._files.memory_bytes)
        self._xattrs.set(ino, name, value)

    def remove_xattr(self, ino: int, name: bytes) -> None:
        """Remove an extended attribute, or raise ENODATA."""
        self._xattrs.remove(ino, name)

    def link(self, ino: int, parent: int, name: bytes) -> Inode:
        """Give an inode one more name."""
        self._space.take(_METADATA_BYTES, self._files.memory_bytes)
        return self._tree.link(ino, parent, name)

    def unlink(self, parent: int, name: bytes) -> None:
        """Take a name from something that is no folder."""
        self._drop_if_unused(self._tree.unlink(parent, name).ino)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty folder."""
        self._drop_if_unused(self._tree.rmdir(parent, name).ino)

    def rename(self, old: tuple[int, bytes], new: tuple[int, bytes], flags: int) -> None:
        """Move what the name *old* (folder, name) leads to."""
        lost = self._tree.rename(old, new, flags)
        if lost is not None:
            self._drop_if_unused(lost.ino)

    async def durable(self) -> None:
        """Return when everything that was done before is durable."""
        await self._checkpointer.durable()

    def disk(self) -> os.statvfs_result:
        """Return what statvfs says of the disk that all this is on, and of the room left for it."""
        return self._space.shown(self._files.memory_bytes)

    def _drop_if_unused(self, ino: int) -> None:
        if ino in self._known or ino in self._open:
            return
        try:
            inode = self._tree.inode(ino)
        except FileNotFoundError:
            return
        if inode.nlink == 0:
            self._files.dropped(ino)
            self._tree.drop(ino)

"""FUSE requests, each translated into one call of the namespace and back."""

import errno
import functools
import logging
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import FUSEError

from libernet.blocks.errors import LibernetError
from libernet.blocks.limits import MAX_NAME_BYTES
from libernet.fs import acls
from libernet.fs.errnos import errno_for
from libernet.fs.fuse.early_pages import EarlyPages
from libernet.fs.namespace import Entry, Namespace, OpenFile
from libernet.fs.nodes import Incomplete
from libernet.fs.tree import Changes, NewInode

_log = logging.getLogger(__name__)

_LASTING_SECONDS = 86_400.0  # only this mount changes what it shows, so the kernel may keep it
_CHANGING_SECONDS = 1.0  # names of snapshots follow those of backups; nothing else changes

_LIST_ENTRIES = 256  # about what a reply to one READDIRPLUS holds
_DOTS = 2  # entries that every listing begins with
_REMEMBERED_NAMES = 8 * _LIST_ENTRIES

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Handler = Callable[Concatenate["FuseOperations", _P], Coroutine[Any, Any, _R]]


def _answered(handler: _Handler[_P, _R]) -> _Handler[_P, _R]:
    """Turn every exception into an errno: any other out of a handler would end the mount."""

    @functools.wraps(handler)
    async def answer(self: "FuseOperations", /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return await handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except OSError as exc:
            raise FUSEError(exc.errno or errno.EIO) from exc
        except LibernetError as exc:
            _log.error("%s failed: %s", handler.__name__, exc)
            raise FUSEError(errno_for(exc, is_read=handler.__name__ == "read")) from exc
        except Exception as exc:
            _log.exception("%s failed for an unforeseen reason", handler.__name__)
            raise FUSEError(errno.EIO) from exc

    return answer


class _Listing:
    """An open folder.

    State: _names, the last names listed by their positions (those of the dots are 1 and 2), so
    that the kernel can go on from any of them; lacking, why some entries cannot be listed.
    """

    def __init__(self, ino: int) -> None:
        self.ino = ino
        self.lacking: LibernetError | None = None
        self._names: OrderedDict[int, bytes] = OrderedDict()

    def name_at(self, position: int) -> bytes | None:
        """Return the name that was listed at a position, empty for a dot, None if forgotten."""
        return self._names.get(position) if position > _DOTS else b""

    def note(self, found: Sequence[object], *, is_start: bool) -> None:
        """Note what else the folder has; at its end raise why that cannot be listed.

        It may have come meanwhile, with names before those that were listed: the end would lie.
        """
        if isinstance(found, Incomplete):
            self.lacking = found.error
        elif is_start:
            self.lacking = None
        elif not found and self.lacking is not None:
            raise self.lacking

    def listed(self, position: int, name: bytes) -> None:
        """Remember which name was listed at a position."""
        self._names[position] = name
        if len(self._names) > _REMEMBERED_NAMES:
            self._names.popitem(last=False)


class FuseOperations(pyfuse3.Operations):
    """The handlers; see pyfuse3.Operations for what each is asked.

    State
      _files       open files by handle, with their inodes
      _listings    open folders by handle
      initialized  set when the kernel and this have agreed on how they speak
    """

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, namespace: Namespace, *, enforces_acls: bool) -> None:
        """Make the handlers; the kernel applies ACLs, and checks all permissions, if told to."""
        super().__init__()
        self.enable_acl = enforces_acls
        self._namespace = namespace
        self._files: dict[int, tuple[int, OpenFile]] = {}
        self._early = EarlyPages(namespace)
        self._listings: dict[int, _Listing] = {}
        self._next_handle = 1
        self.initialized = trio.Event()

    def init(self) -> None:
        self.initialized.set()

    @_answered
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        try:
            return _attributes(await self._namespace.lookup(parent_inode, name))
        except FileNotFoundError:
            if not self._namespace.stays_absent(parent_inode):
                raise
        absent = pyfuse3.EntryAttributes()  # no inode: the kernel remembers that there is nothing
        absent.entry_timeout = _LASTING_SECONDS
        return absent

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for ino, times in inode_list:
            try:
                self._early.forgotten(ino)
                self._namespace.forget(ino, times)
            except Exception:  # noqa: BLE001 - there is no reply that could tell
                _log.exception("forgetting inode %d failed", ino)

    @_answered
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return _attributes(await self._namespace.stat(inode))

    @_answered
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        changes = Changes(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        size = attr.st_size if fields.update_size else None
        return _attributes(await self._namespace.set_attributes(inode, changes, size))

    @_answered
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._namespace.target(inode)

    @_answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        new = NewInode(mode & ~ctx.umask, ctx.uid, ctx.gid, rdev=rdev)
        return _attributes(self._namespace.make(parent_inode, name, new))

    @_answered
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        permissions = stat.S_IMODE(mode) & ~ctx.umask
        new = NewInode(stat.S_IFDIR | permissions, ctx.uid, ctx.gid)
        return _attributes(self._namespace.make(parent_inode, name, new))

    @_answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        new = NewInode(stat.S_IFLNK | 0o777, ctx.uid, ctx.gid, target=target)
        return _attributes(self._namespace.make(parent_inode, name, new))

    @_answered
    async def link(
        self,
        inode: int,
        new_parent_inode: int,
        new_name: bytes,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        return _attributes(self._namespace.link(inode, new_parent_inode, new_name))

    @_answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._namespace.unlink(parent_inode, name)

    @_answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._namespace.rmdir(parent_inode, name)

    @_answered
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        self._namespace.rename((parent_inode_old, name_old), (parent_inode_new, name_new), flags)

    @_answered
    async def create(
        self,
        parent_inode: int,
        name: bytes,
        mode: int,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        permissions = stat.S_IMODE(mode) & ~ctx.umask
        new = NewInode(stat.S_IFREG | permissions, ctx.uid, ctx.gid)
        entry, file = self._namespace.create(parent_inode, name, new)
        return self._opened(entry.ino, file), _attributes(entry)

    @_answered
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        file = await self._namespace.open(inode, flags)
        await self._early.give(inode, file, flags)
        return self._opened(inode, file)

    @_answered
    async def read(self, fh: int, off: int, size: int) -> bytes:
        # The stub says bytes, but any buffer will do: a view of a cached chunk is not copied.
        return await self._namespace.read(self._files[fh][1], off, size)  # type: ignore[return-value]

    @_answered
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        await self._namespace.write(self._files[fh][1], off, buf)
        return len(buf)

    @_answered
    async def flush(self, fh: int) -> None:
        # The kernel remembers this answer and asks no more at each close. Sealing begins at
        # release; errors are told by write and fsync.
        raise FUSEError(errno.ENOSYS)

    @_answered
    async def release(self, fh: int) -> None:
        ino, file = self._files.pop(fh)
        self._early.released(ino)
        self._namespace.close(file)

    @_answered
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._namespace.durable()

    @_answered
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._namespace.durable()

    @_answered
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        handle = self._new_handle()
        self._listings[handle] = _Listing(inode)
        return handle

    @_answered
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self._listings[fh]
        position = start_id
        for name, ino in self._namespace.dots(listing.ino)[start_id:]:
            position += 1
            if not pyfuse3.readdir_reply(token, name, _number_alone(ino), position):
                return
        after = listing.name_at(start_id)
        if after is None:
            after = await self._name_at(listing.ino, start_id)
        found = await self._namespace.children(listing.ino, after, _LIST_ENTRIES)
        listing.note(found, is_start=not after)
        for name, what in found:
            position += 1
            entry = self._namespace.enter(listing.ino, name, what)
            attributes = _attributes(entry)
            if not entry.is_lasting:  # a look-up knows more, as it may read a document
                attributes.entry_timeout = attributes.attr_timeout = 0
            if not pyfuse3.readdir_reply(token, name, attributes, position):
                self._namespace.forget(entry.ino, 1)
                return
            listing.listed(position, name)

    @_answered
    async def releasedir(self, fh: int) -> None:
        del self._listings[fh]

    @_answered
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        disk = self._namespace.disk()
        data = pyfuse3.StatvfsData()
        data.f_bsize = disk.f_bsize
        data.f_frsize = disk.f_frsize
        data.f_blocks = disk.f_blocks
        data.f_bfree = disk.f_bfree
        data.f_bavail = disk.f_bavail
        data.f_files = disk.f_files
        data.f_ffree = disk.f_ffree
        data.f_favail = disk.f_favail
        data.f_namemax = MAX_NAME_BYTES
        return data

    @_answered
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        if mode & os.W_OK and self._namespace.is_read_only(inode):
            return False
        permissions = (await self._namespace.stat(inode)).look.mode
        is_runnable = stat.S_ISDIR(permissions) or permissions & 0o111
        return bool(is_runnable or not mode & os.X_OK)

    @_answered
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        # Asked for security.capability at every write. pyfuse3 answers ERANGE.
        value = await self._namespace.xattr(inode, name)
        if value is None:
            raise FUSEError(errno.ENODATA)
        return value

    @_answered
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        return await self._namespace.xattr_names(inode, is_root=ctx.uid == 0)

    @_answered
    async def setxattr(
        self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        # pyfuse3 has answered XATTR_CREATE and XATTR_REPLACE by asking getxattr() before. The
        # kernel lets one such request at a time come for an inode.
        await self._namespace.set_xattr(inode, name, value)
        if name == acls.ACCESS and not self.enable_acl:
            # The mode has changed with it: a kernel that does not enforce ACLs expects no such
            # thing. Taking the attributes alone from it waits for nothing.
            pyfuse3.invalidate_inode(inode, attr_only=True)

    @_answered
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._namespace.remove_xattr(inode, name)

    async def _name_at(self, ino: int, position: int) -> bytes:
        """Return the name at a position of a folder, counted from its start."""
        after, left = b"", position - _DOTS
        while left and (found := await self._namespace.children(ino, after, min(left, 4096))):
            after, left = found[-1][0], left - len(found)
        return after

    def _opened(self, ino: int, file: OpenFile) -> pyfuse3.FileInfo:
        handle = self._new_handle()
        self._files[handle] = ino, file
        self._early.opened(ino)
        return pyfuse3.FileInfo(fh=handle, keep_cache=True)

    def _new_handle(self) -> int:
        self._next_handle += 1
        return self._next_handle


def _number_alone(ino: int) -> pyfuse3.EntryAttributes:
    """Return all that the kernel takes of a dot: it asks for the rest when somebody looks."""
    attributes = pyfuse3.EntryAttributes()
    attributes.st_ino = ino
    attributes.st_mode = stat.S_IFDIR
    return attributes


def _attributes(entry: Entry) -> pyfuse3.EntryAttributes:
    look = entry.look
    attributes = pyfuse3.EntryAttributes()
    seconds = _LASTING_SECONDS if entry.is_lasting else _CHANGING_SECONDS
    attributes.entry_timeout = seconds
    attributes.attr_timeout = seconds
    attributes.st_ino = entry.ino
    attributes.st_mode = look.mode
    attributes.st_nlink = look.nlink
    attributes.st_uid = look.uid
    attributes.st_gid = look.gid
    attributes.st_rdev = look.rdev
    attributes.st_size = look.size
    attributes.st_blksize = 1024 * 1024  # the most that one request carries
    attributes.st_blocks = -(-entry.stored_bytes // 512)
    attributes.st_atime_ns = look.atime_ns
    attributes.st_mtime_ns = look.mtime_ns
    attributes.st_ctime_ns = look.ctime_ns
    return attributes

"""What the operations on names and attributes do to the tree, by POSIX's rules.

Everything here works on the overlay, in memory: nothing waits, so each operation is atomic.
Errors are the built-in OSErrors that a caller of the system call sees.
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import msgspec

from libernet.blocks.limits import MAX_NAME_BYTES
from libernet.fs import acls
from libernet.fs.inode import ROOT_INO, Inode
from libernet.fs.overlay import Overlay

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

MAX_LINK_BYTES = 4095
"""Longest text of a symbolic link, PATH_MAX without its end mark."""

_MAX_LINKS = 65_000  # ext4's limit, which programs know
_MAX_TIME_NS = 2**63 - 1  # in the year 2262: what the journal and documents can hold


def os_error(code: int) -> OSError:
    """Return the OSError, of its proper subclass, for an error number."""
    return OSError(code, os.strerror(code))


@dataclass(frozen=True, slots=True)
class NewInode:
    """What a caller wants a new inode to be: st_mode with type bits, owner, and its specials."""

    mode: int
    uid: int
    gid: int
    rdev: int = 0
    target: bytes = b""


@dataclass(frozen=True, slots=True)
class Changes:
    """The attributes that a setattr changes; None leaves one as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


class Tree:
    """The names and attributes below `backups/`.

    Directly in `backups/` only folders live: they are the backups.
    """

    def __init__(
        self,
        overlay: Overlay,
        *,
        owner: tuple[int, int],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._overlay = overlay
        self.clock = clock
        if overlay.find(ROOT_INO) is None:
            self._make_root(owner)

    def inode(self, ino: int) -> Inode:
        """Return the inode; FileNotFoundError if there is none."""
        return self._overlay.inode(ino)

    def lookup(self, parent: int, name: bytes) -> Inode:
        """Return what *name* in a folder leads to; FileNotFoundError if nothing."""
        if len(name) > MAX_NAME_BYTES:
            raise os_error(errno.ENAMETOOLONG)
        ino = self._overlay.child(parent, name)
        if ino is None:
            raise os_error(errno.ENOENT)
        return self._overlay.inode(ino)

    def children(self, parent: int, after: bytes, limit: int) -> list[tuple[bytes, Inode]]:
        """Return up to *limit* of a folder's entries behind the name *after*, by name."""
        return self._overlay.children(parent, after, limit)

    def backups(self) -> Iterator[tuple[bytes, Inode]]:
        """Yield the backups: the folders directly in `backups/`."""
        after = b""
        while page := self._overlay.children(ROOT_INO, after, 256):
            yield from page
            after = page[-1][0]

    def make(self, parent: int, name: bytes, new: NewInode) -> Inode:
        """Make a file, folder, link or special file under a name that is free."""
        folder = self._folder_for(parent, name)
        if parent == ROOT_INO and not stat.S_ISDIR(new.mode):
            raise os_error(errno.EPERM)
        if self._overlay.child(parent, name) is not None:
            raise os_error(errno.EEXIST)
        if len(new.target) > MAX_LINK_BYTES:
            raise os_error(errno.ENAMETOOLONG)
        mode, xattrs = acls.inherited(self._overlay.xattrs(folder), new.mode)
        inode = self._new_inode(folder, new if mode == new.mode else replace(new, mode=mode))
        self._overlay.make(inode)
        if xattrs:
            inode = self._overlay.put_xattrs(inode, xattrs)
        self._overlay.set_child(parent, name, inode.ino)
        self._entry_changed(parent, folders=1 if inode.is_folder else 0)
        return inode

    def link(self, ino: int, parent: int, name: bytes) -> Inode:
        """Give an inode one more name, in the same backup."""
        self._folder_for(parent, name)
        inode = self._overlay.inode(ino)
        if self._overlay.child(parent, name) is not None:
            raise os_error(errno.EEXIST)
        if inode.is_folder or parent == ROOT_INO:
            raise os_error(errno.EPERM)
        if inode.nlink == 0:
            raise os_error(errno.ENOENT)
        if inode.nlink >= _MAX_LINKS:
            raise os_error(errno.EMLINK)
        home = self._backup_of(parent)
        with closing(self._overlay.parents(ino)) as parents:
            if not any(self._backup_of(other) == home for other in parents):
                raise os_error(errno.EXDEV)
        linked = msgspec.structs.replace(inode, nlink=inode.nlink + 1, ctime_ns=self.clock())
        self._overlay.put(linked)
        self._overlay.set_child(parent, name, ino)
        self._entry_changed(parent)
        return linked

    def unlink(self, parent: int, name: bytes) -> Inode:
        """Take a name from something that is no folder, and return it as it is afterwards."""
        inode = self.lookup(parent, name)
        if inode.is_folder:
            raise os_error(errno.EISDIR)
        self._overlay.set_child(parent, name, None)
        self._entry_changed(parent)
        return self._lost_name(inode)

    def rmdir(self, parent: int, name: bytes) -> Inode:
        """Remove an empty folder, and return it as it is afterwards."""
        inode = self.lookup(parent, name)
        if not inode.is_folder:
            raise os_error(errno.ENOTDIR)
        if not self._overlay.is_empty(inode.ino):
            raise os_error(errno.ENOTEMPTY)
        self._overlay.set_child(parent, name, None)
        self._entry_changed(parent, folders=-1)
        return self._lost_name(inode)

    def rename(
        self, old: tuple[int, bytes], new: tuple[int, bytes], flags: int = 0
    ) -> Inode | None:
        """Move what the name *old* (folder, name) leads to; return what lost its name to it."""
        if flags not in {0, RENAME_NOREPLACE, RENAME_EXCHANGE}:
            raise os_error(errno.EINVAL)
        moved = self.lookup(*old)
        self._folder_for(*new)
        target_ino = self._overlay.child(*new)
        target = self._overlay.inode(target_ino) if target_ino is not None else None
        self._check_rename(moved, target, (old[0], new[0]), flags)
        if flags & RENAME_EXCHANGE:
            assert target is not None
            self._exchange(moved, target, old, new)
            return None
        if target is not None and target.ino == moved.ino:
            return None  # two names of one inode: POSIX says nothing happens
        lost = None
        if target is not None:
            lost = self.rmdir(*new) if target.is_folder else self.unlink(*new)
        self._overlay.set_child(*old, None)
        self._overlay.set_child(*new, moved.ino)
        folders = 1 if moved.is_folder else 0
        self._entry_changed(old[0], folders=-folders)
        self._entry_changed(new[0], folders=folders)
        self._moved(moved, new[0])
        return lost

    def set_attributes(self, ino: int, changes: Changes) -> Inode:
        """Change mode, owner or times; the change time becomes now."""
        inode = self._overlay.inode(ino)
        mode = inode.mode
        if changes.mode is not None:
            mode = stat.S_IFMT(mode) | stat.S_IMODE(changes.mode)
        elif changes.uid is not None or changes.gid is not None:
            mode = _unprivileged(mode)
        changed = msgspec.structs.replace(
            inode,
            mode=mode,
            uid=inode.uid if changes.uid is None else changes.uid,
            gid=inode.gid if changes.gid is None else changes.gid,
            atime_ns=inode.atime_ns if changes.atime_ns is None else _kept_ns(changes.atime_ns),
            mtime_ns=inode.mtime_ns if changes.mtime_ns is None else _kept_ns(changes.mtime_ns),
            ctime_ns=self.clock(),
        )
        if changes.mode is not None and inode.has_xattrs:
            xattrs = acls.after_chmod(self._overlay.xattrs(inode), mode)
            return self._overlay.put_xattrs(changed, xattrs)
        self._overlay.put(changed)
        return changed

    def set_size(self, ino: int, size: int) -> Inode:
        """Let a file have *size* bytes as of now, its content having been changed."""
        inode = self._overlay.inode(ino)
        now = self.clock()
        mode = _unprivileged(inode.mode)
        changed = msgspec.structs.replace(inode, mode=mode, size=size, mtime_ns=now, ctime_ns=now)
        self._overlay.put(changed, touch=inode.nlink > 0)
        return changed

    def drop(self, ino: int) -> None:
        """Remove an inode that has no name and that nobody uses."""
        self._overlay.drop(ino)

    def _make_root(self, owner: tuple[int, int]) -> None:
        now = self.clock()
        uid, gid = owner
        mode = stat.S_IFDIR | 0o755
        self._overlay.make(Inode(ROOT_INO, mode, uid, gid, 0, 2, 0, now, now, now, parent=1))

    def _new_inode(self, folder: Inode, new: NewInode) -> Inode:
        now = self.clock()
        is_folder = stat.S_ISDIR(new.mode)
        mode, gid = new.mode, new.gid
        if folder.mode & stat.S_ISGID:
            gid = folder.gid
            mode |= stat.S_ISGID if is_folder else 0
        return Inode(
            ino=self._overlay.new_ino(),
            mode=mode,
            uid=new.uid,
            gid=gid,
            size=len(new.target),
            nlink=2 if is_folder else 1,
            rdev=new.rdev,
            atime_ns=now,
            mtime_ns=now,
            ctime_ns=now,
            parent=folder.ino if is_folder else 0,
            target=new.target,
        )

    def _folder_for(self, parent: int, name: bytes) -> Inode:
        """Return the folder in which *name* may be made; OSError if it cannot be."""
        if len(name) > MAX_NAME_BYTES:
            raise os_error(errno.ENAMETOOLONG)
        folder = self._overlay.inode(parent)
        if not folder.is_folder:
            raise os_error(errno.ENOTDIR)
        if folder.nlink == 0:
            raise os_error(errno.ENOENT)
        return folder

    def _check_rename(
        self, moved: Inode, target: Inode | None, parents: tuple[int, int], flags: int
    ) -> None:
        old_parent, new_parent = parents
        if target is None and flags & RENAME_EXCHANGE:
            raise os_error(errno.ENOENT)
        if target is not None and flags & RENAME_NOREPLACE:
            raise os_error(errno.EEXIST)
        if new_parent == ROOT_INO and not moved.is_folder:
            raise os_error(errno.EPERM)
        if moved.is_folder and moved.ino in self._ancestors(new_parent):
            raise os_error(errno.EINVAL)
        if target is None:
            return
        if flags & RENAME_EXCHANGE:
            if old_parent == ROOT_INO and not target.is_folder:
                raise os_error(errno.EPERM)
            if target.is_folder and target.ino in self._ancestors(old_parent):
                raise os_error(errno.EINVAL)
        elif target.is_folder != moved.is_folder:
            raise os_error(errno.EISDIR if target.is_folder else errno.ENOTDIR)

    def _exchange(
        self, moved: Inode, target: Inode, old: tuple[int, bytes], new: tuple[int, bytes]
    ) -> None:
        self._overlay.set_child(*old, target.ino)
        self._overlay.set_child(*new, moved.ino)
        difference = int(moved.is_folder) - int(target.is_folder)
        self._entry_changed(old[0], folders=-difference)
        self._entry_changed(new[0], folders=difference)
        self._moved(moved, new[0])
        self._moved(target, old[0])

    def _moved(self, inode: Inode, parent: int) -> None:
        """Note an inode's new place; its change time becomes now."""
        current = self._overlay.inode(inode.ino)
        self._overlay.put(
            msgspec.structs.replace(
                current, parent=parent if inode.is_folder else 0, ctime_ns=self.clock()
            ),
            touch=not inode.is_folder,  # a folder's document stays as it is
        )

    def _entry_changed(self, parent: int, *, folders: int = 0) -> None:
        """Note that an entry came or went, and how many of them were folders."""
        folder = self._overlay.inode(parent)
        now = self.clock()
        self._overlay.put(
            msgspec.structs.replace(
                folder, nlink=folder.nlink + folders, mtime_ns=now, ctime_ns=now
            )
        )

    def _lost_name(self, inode: Inode) -> Inode:
        nlink = 0 if inode.is_folder else inode.nlink - 1
        changed = msgspec.structs.replace(inode, nlink=nlink, ctime_ns=self.clock())
        self._overlay.put(changed, touch=nlink > 0)
        return changed

    def _ancestors(self, ino: int) -> Iterator[int]:
        """Yield a folder and all above it, up to and with `backups/`."""
        while ino != ROOT_INO:
            yield ino
            ino = self._overlay.inode(ino).parent
        yield ROOT_INO

    def _backup_of(self, folder: int) -> int:
        """Return the first-level folder that *folder* is or stands in."""
        *_, backup = [ino for ino in self._ancestors(folder) if ino != ROOT_INO] or [ROOT_INO]
        return backup


def _unprivileged(mode: int) -> int:
    """Return the mode of a file whose content or owner changed: it runs as nobody else any more.

    The kernel leaves that to us (FUSE_HANDLE_KILLPRIV). Setgid without execution is no privilege.
    """
    if not stat.S_ISREG(mode) or not mode & (stat.S_ISUID | stat.S_ISGID):
        return mode
    mode &= ~stat.S_ISUID
    return mode & ~stat.S_ISGID if mode & stat.S_IXGRP else mode


def _kept_ns(time_ns: int) -> int:
    """Return the time nearest to one that somebody set, as other file systems do at their ends."""
    return max(-_MAX_TIME_NS - 1, min(time_ns, _MAX_TIME_NS))

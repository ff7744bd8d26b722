"""Extended attributes in `backups/`: which there can be, and how they change (xattr(7)).

Who may change what is for the kernel to say: it knows the caller's capabilities, and refuses before
it asks.
"""

import errno
import stat
from collections.abc import Callable, Iterable, Mapping

import msgspec

from libernet.blocks.errors import FormatError
from libernet.fs import acls
from libernet.fs.acls import Acl
from libernet.fs.inode import Inode
from libernet.fs.overlay import Overlay
from libernet.fs.tree import os_error

MAX_NAME_BYTES = 255
"""Longest name, XATTR_NAME_MAX."""

MAX_VALUE_BYTES = 64 * 1024
"""Longest value, XATTR_SIZE_MAX."""

MAX_LIST_BYTES = 64 * 1024
"""Most bytes of one inode's names, each with a NUL: XATTR_LIST_MAX, or they could not be listed."""

MAX_TOTAL_BYTES = 256 * 1024
"""Most bytes of one inode's names and values. In JSON, at worst, they then fit in one entry of a
document (768 KiB) together with the file's parts."""

RESERVED = b"user.libernet."
"""How names of attributes begin that tell programs about a file (`reports.py`): none is kept."""

_USER = b"user."
_TRUSTED = b"trusted."
_NAMESPACES = (_USER, _TRUSTED, b"security.")


def check_namespace(name: bytes) -> None:
    """Raise EOPNOTSUPP for an attribute that nothing can have."""
    if not (name.startswith(_NAMESPACES) or name in acls.ACLS):
        raise os_error(errno.EOPNOTSUPP)


def can_have(kind: int, name: bytes) -> bool:
    """Return whether something of a kind, as stat.S_IFMT says it, can have an attribute."""
    if name in _NAMESPACES or name.startswith(RESERVED):
        return False
    if name.startswith(_USER):
        return kind in {stat.S_IFREG, stat.S_IFDIR}
    if name in acls.ACLS:
        return kind == stat.S_IFDIR or (name == acls.ACCESS and kind != stat.S_IFLNK)
    return name.startswith(_NAMESPACES)


def shown_names(names: Iterable[bytes], *, is_root: bool) -> list[bytes]:
    """Return the names that listxattr shows, in order: trusted.* to root alone."""
    return sorted(name for name in names if is_root or not name.startswith(_TRUSTED))


class Xattrs:
    """Look at and change the extended attributes of inodes, in memory: nothing waits."""

    def __init__(self, overlay: Overlay, clock: Callable[[], int]) -> None:
        self._overlay = overlay
        self._clock = clock

    @property
    def pending_bytes(self) -> int:
        """How many bytes of extended attributes are not durable yet."""
        return self._overlay.xattr_bytes

    def get(self, ino: int, name: bytes) -> bytes | None:
        """Return the value of an attribute, None if there is none."""
        inode = self._overlay.inode(ino)
        value = self._overlay.xattrs(inode).get(name) if inode.has_xattrs else None
        if value is None:
            check_namespace(name)
        return value

    def all(self, ino: int) -> Mapping[bytes, bytes]:
        """Return all attributes by name."""
        return self._overlay.xattrs(self._overlay.inode(ino))

    def names(self, ino: int, *, is_root: bool) -> list[bytes]:
        """Return the names of all attributes that a caller sees."""
        return shown_names(self._overlay.xattrs(self._overlay.inode(ino)), is_root=is_root)

    def set(self, ino: int, name: bytes, value: bytes) -> None:
        """Let an attribute have a value; the change time becomes now.

        OSError: EOPNOTSUPP, ERANGE and EINVAL for impossible names, E2BIG for a value that is too
        long, EPERM for user.* on what is no file or folder and for reserved names, ENOSPC when all
        together is too much; of ACLs EINVAL for malformed ones, EACCES and EOPNOTSUPP where there
        can be none.
        """
        inode = self._overlay.inode(ino)
        xattrs = _with(inode, self._overlay.xattrs(inode), name, value)
        acl = Acl.parse(value) if name == acls.ACCESS else None
        if acl is not None:
            inode = msgspec.structs.replace(inode, mode=inode.mode & ~0o777 | acl.permissions)
        self._put(inode, xattrs)

    def replace(self, ino: int, xattrs: Mapping[bytes, bytes]) -> list[bytes]:
        """Let an inode have *xattrs* and no others; return those that it cannot have.

        The mode stays as it is.
        """
        inode = self._overlay.inode(ino)
        kept: dict[bytes, bytes] = {}
        refused = []
        for name, value in sorted(xattrs.items()):
            try:
                kept = _with(inode, kept, name, value)
            except OSError:
                refused.append(name)
        if kept != self._overlay.xattrs(inode):
            self._put(inode, kept)
        return refused

    def remove(self, ino: int, name: bytes) -> None:
        """Remove an attribute, or raise ENODATA; the change time becomes now."""
        inode = self._overlay.inode(ino)
        xattrs = dict(self._overlay.xattrs(inode))
        if xattrs.pop(name, None) is None:
            check_namespace(name)
            if name.startswith(RESERVED):
                raise os_error(errno.EPERM)
            raise os_error(errno.ENODATA)
        self._put(inode, xattrs)

    def _put(self, inode: Inode, xattrs: Mapping[bytes, bytes]) -> None:
        changed = msgspec.structs.replace(inode, ctime_ns=self._clock())
        self._overlay.put_xattrs(changed, xattrs)


def _with(
    inode: Inode, xattrs: Mapping[bytes, bytes], name: bytes, value: bytes
) -> dict[bytes, bytes]:
    """Return *xattrs* with one set, or raise what `Xattrs.set` does."""
    _check_name(name)
    if not can_have(stat.S_IFMT(inode.mode), name):
        raise os_error(_refusal(inode.mode, name))
    if len(value) > MAX_VALUE_BYTES:
        raise os_error(errno.E2BIG)
    result = {**xattrs, name: value}
    if name in acls.ACLS:
        acl = _parsed(value)
        if acl is None or (name == acls.ACCESS and acl.is_mode_alone):
            del result[name]
        else:
            result[name] = bytes(acl)
    _check_room(result)
    return result


def _parsed(value: bytes) -> Acl | None:
    try:
        return Acl.parse(value)
    except FormatError as exc:
        raise os_error(errno.EINVAL) from exc


def _check_name(name: bytes) -> None:
    check_namespace(name)
    if len(name) > MAX_NAME_BYTES:
        raise os_error(errno.ERANGE)
    if name in _NAMESPACES or b"\0" in name:
        raise os_error(errno.EINVAL)


def _refusal(mode: int, name: bytes) -> int:
    """Return the errno for an attribute that something of a mode cannot have."""
    if name not in acls.ACLS:
        return errno.EPERM
    return errno.EOPNOTSUPP if stat.S_ISLNK(mode) else errno.EACCES


def _check_room(xattrs: Mapping[bytes, bytes]) -> None:
    names_bytes = sum(len(name) + 1 for name in xattrs)
    values_bytes = sum(map(len, xattrs.values()))
    if names_bytes > MAX_LIST_BYTES or names_bytes + values_bytes > MAX_TOTAL_BYTES:
        raise os_error(errno.ENOSPC)

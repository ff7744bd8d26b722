"""POSIX access control lists: how attributes hold them, and what they have to do with the mode.

The format is the kernel's (linux/posix_acl_xattr.h), the rules are those of its fs/posix_acl.c. Who
may do what by them the kernel decides; here they are kept, inherited, and agree with the mode.
"""

import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Self

from libernet.blocks.errors import FormatError

ACCESS = b"system.posix_acl_access"
"""The attribute that says who may use a file or folder, beside its mode."""

DEFAULT = b"system.posix_acl_default"
"""The attribute of a folder that what is made in it inherits."""

ACLS = (ACCESS, DEFAULT)

_VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")  # tag, permissions, id
_NOBODY = 2**32 - 1  # the id of entries that name none


class _Tag(IntEnum):
    """For whom an entry is, in the order in which entries stand."""

    OWNER = 0x01
    USER = 0x02
    OWNING_GROUP = 0x04
    GROUP = 0x08
    MASK = 0x10
    OTHERS = 0x20


_SHIFT = {_Tag.OWNER: 6, _Tag.MASK: 3, _Tag.OTHERS: 0}
_NAMED = frozenset((_Tag.USER, _Tag.GROUP))
_SINGLE = (_Tag.OWNER, _Tag.OWNING_GROUP, _Tag.OTHERS)


@dataclass(frozen=True, slots=True)
class AclEntry:
    """What one user, one group or everybody else may: *permissions* are three bits, rwx."""

    tag: int
    permissions: int
    id: int = _NOBODY


@dataclass(frozen=True, slots=True)
class Acl:
    """A list with one entry each for owner, group and others, and a mask where any has a name."""

    entries: tuple[AclEntry, ...]

    @classmethod
    def parse(cls, value: bytes) -> Self | None:
        """Return the list that an attribute holds, None for an empty one, or raise FormatError."""
        if not value:
            return None
        if len(value) < _HEADER.size or _HEADER.unpack_from(value)[0] != _VERSION:
            raise FormatError("an ACL has an unknown version")
        if (len(value) - _HEADER.size) % _ENTRY.size:
            raise FormatError(f"an ACL has {len(value)} bytes")
        found = tuple(
            AclEntry(tag, permissions, each if tag in _NAMED else _NOBODY)
            for tag, permissions, each in _ENTRY.iter_unpack(value[_HEADER.size :])
        )
        _check(found)
        return cls(found) if found else None

    def __bytes__(self) -> bytes:
        entries = (_ENTRY.pack(each.tag, each.permissions, each.id) for each in self.entries)
        return _HEADER.pack(_VERSION) + b"".join(entries)

    @property
    def permissions(self) -> int:
        """The mode's nine bits that go with it: a mask stands where else the group does."""
        bits = 0
        for each in self.entries:
            if (shift := self._shift(each)) is not None:
                bits |= each.permissions << shift
        return bits

    @property
    def is_mode_alone(self) -> bool:
        """Whether it says no more than a mode does."""
        return len(self.entries) == len(_SINGLE)

    def with_mode(self, mode: int) -> Self:
        """Return the list after chmod."""
        return replace(self, entries=tuple(self._changed(each, mode) for each in self.entries))

    def narrowed(self, mode: int) -> Self:
        """Return what a new inode inherits that is made with a mode: no more than that allows."""
        return self.with_mode(mode & self.permissions)

    def _changed(self, entry: AclEntry, mode: int) -> AclEntry:
        shift = self._shift(entry)
        return entry if shift is None else replace(entry, permissions=mode >> shift & 7)

    def _shift(self, entry: AclEntry) -> int | None:
        """Return where the mode has the bits of an entry, None if it has not."""
        if entry.tag == _Tag.OWNING_GROUP:
            return 3 if all(each.tag != _Tag.MASK for each in self.entries) else None
        return _SHIFT.get(_Tag(entry.tag))


def after_chmod(xattrs: Mapping[bytes, bytes], mode: int) -> Mapping[bytes, bytes]:
    """Return the extended attributes of something that has a mode from now on."""
    acl = Acl.parse(xattrs.get(ACCESS, b""))
    return xattrs if acl is None else {**xattrs, ACCESS: bytes(acl.with_mode(mode))}


def inherited(folder: Mapping[bytes, bytes], mode: int) -> tuple[int, Mapping[bytes, bytes]]:
    """Return mode and attributes of what is made in a folder with attributes.

    The kernel has applied the umask to *mode*, which it should not where there is a default ACL,
    and does not tell what it was before: what is inherited is never wider than on other disks.
    """
    default = Acl.parse(folder.get(DEFAULT, b""))
    if default is None or stat.S_ISLNK(mode):
        return mode, {}
    access = default.narrowed(mode)
    xattrs = {} if access.is_mode_alone else {ACCESS: bytes(access)}
    if stat.S_ISDIR(mode):
        xattrs[DEFAULT] = bytes(default)
    return mode & ~0o777 | access.permissions, xattrs


def _check(entries: tuple[AclEntry, ...]) -> None:
    """Raise FormatError for a list that the kernel would not take; none at all is taken."""
    tags = [each.tag for each in entries]
    if not entries:
        return
    if any(tag not in set(_Tag) for tag in tags) or tags != sorted(tags):
        raise FormatError("the entries of an ACL are not in their order")
    if any(tags.count(tag) != 1 for tag in _SINGLE) or tags.count(_Tag.MASK) > 1:
        raise FormatError("an ACL lacks an entry, or has one twice")
    if not _NAMED.isdisjoint(tags) and _Tag.MASK not in tags:
        raise FormatError("an ACL with named entries has no mask")
    if any(each.permissions > 7 for each in entries):
        raise FormatError("an ACL has an unknown permission")
    if any(each.tag in _NAMED and each.id == _NOBODY for each in entries):
        raise FormatError("an ACL has an entry for nobody")

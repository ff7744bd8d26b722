"""What a reader demands of an entry beyond its types: that its keys agree with each other."""

import stat
from collections.abc import Iterable

from libernet.blocks.entries import (
    Attributes,
    FileEntry,
    Part,
    PartKeys,
    PartListKeys,
    UnixKeys,
    link_keys,
)
from libernet.blocks.errors import FormatError

MAX_LINK_BYTES = 4095
"""Longest text of a symbolic link: Linux's PATH_MAX, less its NUL."""

_MAX_XATTR_NAME_BYTES = 255  # XATTR_NAME_MAX
MAX_XATTR_BYTES = 65536
"""Largest value of an extended attribute, XATTR_SIZE_MAX."""

_SPECIAL = frozenset((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK))


def check_file(name: bytes, entry: FileEntry) -> None:
    """Raise FormatError unless what *entry* has goes with its type, and its sizes add up."""
    unix = entry.unix
    if stat.S_ISREG(unix.mode):
        _check_contents(name, entry)
    elif entry.contents is not None or entry.contents_lists is not None:
        raise FormatError(f"{name!r} has contents but the mode {unix.mode:o}")
    elif stat.S_ISLNK(unix.mode):
        _check_link(name, entry)
    elif stat.S_IFMT(unix.mode) in _SPECIAL:
        check_sum((), entry.size, name)
    else:
        raise FormatError(f"{name!r} has the mode {unix.mode:o}, which is not that of a file")
    if (entry.link is not None or unix.link is not None) and not stat.S_ISLNK(unix.mode):
        raise FormatError(f"{name!r} has a link text and is no symbolic link")
    if unix.xattr or unix.xattr_urls:
        _attributes(unix)


def check_sum(
    items: Iterable[Part | PartKeys | PartListKeys], size: int, what: bytes | str
) -> None:
    """Raise FormatError unless *items*, the parts of *what*, make up *size* bytes."""
    total = sum([item.size for item in items])
    if total != size:
        raise FormatError(f"{what!r} has {size} bytes, its parts have {total}")


def folder_attributes(unix: UnixKeys) -> Attributes:
    """Return the attributes of a folder, or raise FormatError where they are those of a file."""
    if not stat.S_ISDIR(unix.mode) or unix.link is not None:
        raise FormatError(f"a folder has the mode {unix.mode:o} or a link text, as only files have")
    return _attributes(unix)


def _check_contents(name: bytes, entry: FileEntry) -> None:
    if (entry.contents is None) == (entry.contents_lists is None):
        raise FormatError(f"{name!r} must have either contents or lists of them")
    check_sum(entry.contents or entry.contents_lists or (), entry.size, name)


def _check_link(name: bytes, entry: FileEntry) -> None:
    if (entry.link is None) == (entry.unix.link is None):
        raise FormatError(f"the symbolic link {name!r} must have one text")
    target = entry.target()
    if link_keys(target) != (entry.link, entry.unix.link):
        raise FormatError(f"the text of the symbolic link {name!r} is not how it is written")
    if not target or len(target) > MAX_LINK_BYTES or b"\0" in target:
        raise FormatError(f"the symbolic link {name!r} has an impossible text")
    if entry.size != len(target):
        raise FormatError(f"{name!r} has {entry.size} bytes, its text {len(target)}")


def _attributes(unix: UnixKeys) -> Attributes:
    attributes = unix.attributes()
    if not attributes.xattr_urls.keys().isdisjoint(attributes.xattr):
        raise FormatError("an extended attribute has two values")
    for name in (*attributes.xattr, *attributes.xattr_urls):
        if not 0 < len(name) <= _MAX_XATTR_NAME_BYTES or b"\0" in name:
            raise FormatError(f"an extended attribute has the impossible name {name[:80]!r}")
    for name, value in attributes.xattr.items():
        if len(value) > MAX_XATTR_BYTES:
            raise FormatError(f"the extended attribute {name!r} has {len(value)} bytes")
    return attributes

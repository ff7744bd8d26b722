"""The entries of documents: their values, and their keys as JSON has them (see README.md).

The classes named ...Keys mirror the JSON objects. Their fields stand in alphabetical order, because
that is the order they are written in: equal folders must give equal bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Self
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec

from libernet.blocks.errors import FormatError
from libernet.blocks.limits import MAX_BLOCK_BYTES
from libernet.blocks.names import escape, unescape
from libernet.blocks.reference import Reference

VERSION: Final = 1
"""Version of the format that is written, and the newest that is read."""

ENCODER: Final = msgspec.json.Encoder(order="deterministic")

_EPOCH_NS = 978_307_200 * 10**9  # 2001-01-01T00:00:00Z, from which the original counts

# What Linux can hold: ids and device numbers of 32 bits, sizes and times of 63 bits and a sign.
_Uint32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_PartSize = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
_Mode = Annotated[int, msgspec.Meta(ge=0, le=0o177777)]


@dataclass(frozen=True, slots=True)
class Attributes:
    """Hold what `lstat` says of a file or folder, apart from its size.

    *mode* has the type bits too. *link_group* is 0, or the same number for all names in one tree
    that are hard links to one file. *rdev* is 0 but for devices. *xattr* maps names to values,
    *xattr_urls* those of others to what opens the blocks that hold their values.
    """

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    link_group: int = 0
    rdev: int = 0
    xattr: Mapping[bytes, bytes] = field(default_factory=dict, hash=False)
    xattr_urls: Mapping[bytes, Reference] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Part:
    """Stand for the next *size* bytes of a file: the chunk of *reference*, or (None) zeros."""

    size: int
    reference: Reference | None


class UnixKeys(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Mirror `unix`: attributes, and the link text that is not UTF-8."""

    gid: _Uint32
    link: str | None = None
    link_group: _Size = 0
    mode: _Mode
    mtime_ns: _Int64
    rdev: _Uint32 = 0
    uid: _Uint32
    xattr: dict[str, bytes] = {}
    xattr_urls: dict[str, str] = {}

    @classmethod
    def of(cls, attributes: Attributes, link: str | None = None) -> Self:
        """Return the keys for *attributes*."""
        return cls(
            gid=attributes.gid,
            link=link,
            link_group=attributes.link_group,
            mode=attributes.mode,
            mtime_ns=attributes.mtime_ns,
            rdev=attributes.rdev,
            uid=attributes.uid,
            xattr={escape(name): value for name, value in attributes.xattr.items()},
            xattr_urls={escape(name): str(url) for name, url in attributes.xattr_urls.items()},
        )

    def attributes(self) -> Attributes:
        """Return the attributes; FormatError where an xattr has a wrong key or reference."""
        xattr = {unescape(key): value for key, value in self.xattr.items()}
        urls = {unescape(key): block_reference(url) for key, url in self.xattr_urls.items()}
        return Attributes(
            self.mode, self.uid, self.gid, self.mtime_ns, self.link_group, self.rdev, xattr, urls
        )


class PartKeys(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Mirror an item of `contents`."""

    size: _PartSize
    url: str | None = None

    @classmethod
    def of(cls, part: Part) -> Self:
        """Return the keys for *part*."""
        return cls(size=part.size, url=None if part.reference is None else str(part.reference))

    def part(self) -> Part:
        """Return the part, or raise FormatError."""
        if self.url is None:
            return Part(self.size, None)
        if self.size > MAX_BLOCK_BYTES:
            raise FormatError(f"a part of {self.size} bytes fits in no block")
        return Part(self.size, block_reference(self.url))


class PartListKeys(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Mirror an item of `contents_lists`: *size* is that of all parts in the list."""

    size: _PartSize
    url: str


class FileEntry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Mirror an entry of `files`: a regular file, a symbolic link, a fifo, socket or device.

    `parse_document` has checked one that comes from it; only references are parsed when asked for.
    """

    contents: list[PartKeys] | None = None
    contents_lists: list[PartListKeys] | None = None
    executable: bool = False
    link: str | None = None
    modified: float
    readonly: bool = False
    size: _Size
    unix: UnixKeys

    def attributes(self) -> Attributes:
        """Return what `lstat` says of it, apart from `size`."""
        return self.unix.attributes()

    @property
    def has_xattrs(self) -> bool:
        """Say whether `attributes()` has extended attributes."""
        return bool(self.unix.xattr or self.unix.xattr_urls)

    def target(self) -> bytes:
        """Return where the symbolic link leads: empty for anything else."""
        if self.link is not None:
            return self.link.encode()
        return b"" if self.unix.link is None else unquote_to_bytes(self.unix.link)

    @property
    def spilled(self) -> bool:
        """Say whether the parts stand in lists of their own: `part_lists`, not `parts`."""
        return self.contents_lists is not None

    @property
    def has_parts(self) -> bool:
        """Say whether `parts` are known and not empty."""
        return bool(self.contents)

    def parts(self) -> list[Part]:
        """Return the parts in file order, or raise FormatError where a reference is malformed."""
        if self.spilled:
            raise ValueError("the parts of this file stand in its part_lists()")
        return [keys.part() for keys in self.contents or ()]

    def stored_bytes(self) -> int:
        """Return how many bytes are in no hole; of a spilled file all count as such."""
        if self.contents is None:
            return self.size
        return sum(keys.size for keys in self.contents if keys.url is not None)

    def part_lists(self) -> list[Part]:
        """Return the lists in file order, each as a part whose block `parse_contents_list` reads.

        Raises FormatError where a reference is malformed.
        """
        return [Part(keys.size, block_reference(keys.url)) for keys in self.contents_lists or ()]


class FolderKeys(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Mirror an entry of `directories`: `url`, `unix` and `modified`, or `document` alone."""

    document: "DocumentKeys | None" = None
    modified: float | None = None
    unix: UnixKeys | None = None
    url: str | None = None


class PageKeys(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Mirror an item of `pages`."""

    first: str
    url: str


class DocumentKeys(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Mirror a document: of a folder, or (without `unix`, `modified`) of a page of a wide one."""

    directories: dict[str, FolderKeys] = {}
    files: dict[str, FileEntry] = {}
    modified: float | None = None
    pages: list[PageKeys] = []
    unix: UnixKeys | None = None
    version: int


class PartsKeys(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Mirror a list of parts that stands in a block of its own."""

    contents: list[PartKeys]
    version: int


def modified_seconds(mtime_ns: int) -> float:
    """Return `modified` for a time in nanoseconds since 1970: seconds since 2001, rounded."""
    return (mtime_ns - _EPOCH_NS) / 10**9


def link_keys(target: bytes) -> tuple[str | None, str | None]:
    """Return `link` of the entry and `link` of its `unix`: the latter where it is not UTF-8."""
    try:
        return target.decode(), None
    except UnicodeDecodeError:
        return None, quote_from_bytes(target)


def block_reference(url: str) -> Reference:
    """Return the reference of one whole block, or raise FormatError."""
    reference = Reference.parse(url)
    if reference.path:
        raise FormatError("a reference inside a document has a path")
    return reference.block

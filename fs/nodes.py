"""The kinds of things that read-only folders hold."""

import stat
from collections.abc import Collection, Hashable, Sequence
from typing import ClassVar, NamedTuple

import msgspec

from libernet.blocks.errors import LibernetError
from libernet.fs.ahead import Reading


class Appearance(msgspec.Struct, frozen=True, gc=False):
    """How something looks: the attributes that stat shows, times in nanoseconds since 1970.

    *link_group* is 0, or one number for all names in a tree that are hard links to one file.
    """

    mode: int
    size: int
    uid: int
    gid: int
    mtime_ns: int
    nlink: int = 1
    rdev: int = 0
    link_group: int = 0

    @property
    def atime_ns(self) -> int:
        return self.mtime_ns

    @property
    def ctime_ns(self) -> int:
        return self.mtime_ns


class NodeXattrs:
    """The extended attributes of a node: of most there are none."""

    __slots__ = ()

    def names(self) -> Collection[bytes]:
        """Return their names; LibernetError where they cannot be known."""
        return ()

    async def value(self, name: bytes) -> bytes | None:
        """Return the value of one, None if there is none; LibernetError if it cannot be had."""
        return None


NO_XATTRS = NodeXattrs()


class Spot(NamedTuple):
    """Where in its folder something stands, while that has the same entries for ever.

    They are in lists that *first* tells apart; in this one it has the *place*, from 0, of *length*.
    """

    first: bytes
    place: int
    length: int


class Node:
    """Something with a name in a read-only folder: a special file, if it is none of the below.

    `is_lasting` nodes look the same whenever their name is looked up again. A name that leads to
    another `identity` than before leads to something else: what a view remembers of it is void. One
    with a `spot` can be had again from its folder by that, and has no identity of its own.
    """

    __slots__ = ("appearance", "spot", "xattrs")
    is_lasting: ClassVar[bool] = True

    def __init__(self, appearance: Appearance, xattrs: NodeXattrs = NO_XATTRS) -> None:
        self.appearance = appearance
        self.xattrs = xattrs
        self.spot: Spot | None = None

    @property
    def identity(self) -> Hashable:
        return None

    def stored_bytes(self) -> int:
        """Return how many of its bytes are in no hole, as far as is known."""
        return self.appearance.size

    def address(self) -> str | None:
        """Return a reference that leads to it, None if there is none."""
        return None


class LinkNode(Node):
    """A symbolic link."""

    __slots__ = ()

    def target(self) -> bytes:
        """Return its text."""
        raise NotImplementedError


class FileNode(Node):
    """A file that can be read."""

    __slots__ = ()

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return up to *size* bytes at *offset*, fewer only at the end; LibernetError if not."""
        raise NotImplementedError

    async def measured(self) -> "FileNode":
        """Return the same with a size that is sure; LibernetError where that cannot be known."""
        return self

    async def near(self) -> bytes | memoryview | None:
        """Return all of a small file if it is on this machine, else None."""
        return None

    def read_ahead(self, offset: int, length: int, reading: Reading | None = None) -> None:
        """Start to fetch a range that a reader will come to next, until *reading* gives it up.

        *length* is what to fetch where nobody knows better.
        """


class Incomplete(list[tuple[bytes, Node]]):
    """Entries of a folder that has more, which cannot be listed now: *error* says why."""

    def __init__(self, entries: Sequence[tuple[bytes, Node]], error: LibernetError) -> None:
        super().__init__(entries)
        self.error = error


class FolderNode(Node):
    """A folder that can be looked into.

    *document_bytes* is the length of the document that is in memory as long as this is, 0 if none.
    """

    __slots__ = ("document_bytes",)

    def __init__(self, appearance: Appearance, xattrs: NodeXattrs = NO_XATTRS) -> None:
        super().__init__(appearance, xattrs)
        self.document_bytes = 0

    async def lookup(self, name: bytes) -> Node:
        """Return what *name* leads to; FileNotFoundError if nothing."""
        raise NotImplementedError

    async def at(self, first: bytes, place: int) -> Node:
        """Return what stands at a Spot; LibernetError if that cannot be had now."""
        raise NotImplementedError

    async def index(self) -> bytes | None:
        """Return the name of the file in it that a reader of web pages is shown, None if none."""
        return None

    async def children(self, after: bytes, limit: int) -> Sequence[tuple[bytes, Node]]:
        """Return up to *limit* entries behind the name *after*, by name; none at the end.

        Where some cannot be listed, the others come as Incomplete, and its error at the end.
        """
        raise NotImplementedError


class BrokenFolder(FolderNode):
    """A folder that its parent lists, but nothing opens: *error* says why to who looks into it."""

    __slots__ = ("_error",)

    def __init__(
        self, appearance: Appearance, error: LibernetError, xattrs: NodeXattrs = NO_XATTRS
    ) -> None:
        super().__init__(appearance, xattrs)
        self._error = error

    async def lookup(self, name: bytes) -> Node:
        raise type(self._error)(*self._error.args)

    async def children(self, after: bytes, limit: int) -> Sequence[tuple[bytes, Node]]:
        raise type(self._error)(*self._error.args)


def folder_appearance(uid: int, gid: int, mtime_ns: int, mode: int = 0o555) -> Appearance:
    """Return how a folder looks that no document describes."""
    return Appearance(stat.S_IFDIR | mode, 0, uid, gid, mtime_ns, nlink=2)

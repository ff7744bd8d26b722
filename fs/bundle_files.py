"""Files and links in bundles, as nodes of the read-only part."""

import errno
import os
import stat
import weakref
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol

from libernet.blocks.documents import FileEntry, Part, parse_contents_list
from libernet.blocks.entries import Attributes, UnixKeys
from libernet.blocks.reference import Reference
from libernet.blocks.source import Origin
from libernet.fs.ahead import Reading
from libernet.fs.chunks import ChunkCache
from libernet.fs.nodes import Appearance, FileNode, LinkNode, NodeXattrs
from libernet.fs.tree import os_error

_LARGE_READ_BYTES = 128 * 1024
"""What cp, cat and dd begin with, and nobody who only looks into a file."""

_FIRST_AHEAD_BYTES = 12 * 1024 * 1024
"""What they get at once, on as many connections to one peer as there are: waiting for the first
chunk before took 0.4 s at a round trip of 50 ms, since each new connection starts slowly."""


class FilesAhead(Protocol):
    """Who knows which files a reader comes to next."""

    def from_here(self, entry: FileEntry, /) -> list[list[Reference]]:
        """Return what *entry* and the next small files need, in batches, as it becomes due."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """A document that is in a block of its own: what opens it, and where the folder stands."""

    reference: Reference
    path: str

    def address(self, origin: Origin) -> str:
        """Return the reference of something that the document lists, wanted for *origin*."""
        names = origin.path[len(self.path) :].split("/")[1:]
        return str(replace(self.reference, path=tuple(map(os.fsencode, names))))


class BundleLink(LinkNode):
    """A symbolic link in a bundle, shown as it was stored and never followed here."""

    __slots__ = ("_target",)

    def __init__(self, appearance: Appearance, target: bytes, xattrs: NodeXattrs) -> None:
        super().__init__(appearance, xattrs)
        self._target = target

    def target(self) -> bytes:
        return self._target


class BundleFile(FileNode):
    """A file in a bundle.

    State: _parts, its parts in file order, known when it is read first; _ends, the offset at which
    each ends; _small_files, for as long as somebody else keeps it: it holds a whole document, and
    files of thousands of documents may be known at one time.
    """

    __slots__ = ("_chunks", "_ends", "_entry", "_origin", "_parts", "_place", "_small_files")

    def __init__(
        self,
        chunks: ChunkCache,
        appearance: Appearance,
        entry: FileEntry,
        origin: Origin,
        small_files: FilesAhead,
        xattrs: NodeXattrs,
        place: Place,
    ) -> None:
        super().__init__(appearance, xattrs)
        self._place = place
        self._chunks = chunks
        self._entry = entry
        self._origin = origin
        self._small_files = weakref.ref(small_files)
        self._parts: list[Part] | None = None
        self._ends: list[int] = []

    def address(self) -> str:
        return self._place.address(self._origin)

    def stored_bytes(self) -> int:
        return self._entry.stored_bytes()

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        end = min(offset + size, self.appearance.size)
        if offset >= end:
            return b""
        pieces = []
        parts = await self.parts()
        ahead_bytes = _FIRST_AHEAD_BYTES if offset == 0 and size >= _LARGE_READ_BYTES else 0
        self._prefetch(self._overlapping(parts, offset, end + ahead_bytes)[1:])
        for part, begin in self._overlapping(parts, offset, end):
            skip, stop = max(offset - begin, 0), min(end - begin, part.size)
            pieces.append(await self._bytes(part, skip, stop))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def near(self) -> bytes | memoryview | None:
        if self._entry.spilled:
            return None
        parts = await self.parts()
        if any(
            each.reference is None or not self._chunks.is_near(each.reference) for each in parts
        ):
            return None
        return await self.read(0, self.appearance.size)

    def read_ahead(self, offset: int, length: int, reading: Reading | None = None) -> None:
        end = offset + self._chunks.ahead_bytes(self._origin, length)
        self._prefetch(self._overlapping(self._parts or [], offset, end), reading)

    def _prefetch(self, parts: Sequence[tuple[Part, int]], reading: Reading | None = None) -> None:
        for part, _ in parts:
            if part.reference is not None:
                self._chunks.prefetch(part.reference, self._origin, reading)

    async def _bytes(self, part: Part, skip: int, stop: int) -> bytes | memoryview:
        if part.reference is None:
            return bytes(stop - skip)
        chunk = await self._chunks.get(part.reference, self._origin)
        if len(chunk) != part.size:
            raise os_error(errno.EIO)  # the document lied about the chunk
        return memoryview(chunk)[skip:stop]

    async def parts(self) -> list[Part]:
        """Return what the file consists of, in order; LibernetError if that cannot be known."""
        if self._parts is None:
            small_files = self._small_files()
            for batch in small_files.from_here(self._entry) if small_files else ():
                self._chunks.bring(batch, self._origin)
            parts = []
            if self._entry.spilled:
                for each in self._entry.part_lists():
                    assert each.reference is not None
                    plaintext = await self._chunks.get(each.reference, self._origin)
                    parts.extend(parse_contents_list(plaintext, size=each.size))
            else:
                parts = self._entry.parts()
            self._parts = parts
            self._ends = list(accumulate(part.size for part in parts))
        return self._parts

    def _overlapping(self, parts: list[Part], offset: int, end: int) -> list[tuple[Part, int]]:
        """Return the parts between two offsets, each with the offset at which it begins."""
        found = []
        for index in range(bisect_right(self._ends, offset), len(parts)):
            begin = self._ends[index] - parts[index].size
            if begin >= end:
                break
            found.append((parts[index], begin))
        return found


def appearance_of(attributes: Attributes | UnixKeys, size: int) -> Appearance:
    """Return how stat shows something with *attributes* and, for a file or link, a *size*."""
    return Appearance(
        mode=attributes.mode,
        size=size,
        uid=attributes.uid,
        gid=attributes.gid,
        mtime_ns=attributes.mtime_ns,
        nlink=2 if stat.S_ISDIR(attributes.mode) else 1,
        rdev=attributes.rdev,
        link_group=attributes.link_group,
    )

"""Bundles as folders: what documents list, read through the chunk cache.

The same code shows snapshots, addresses and, later, remote bundles.
"""

import errno
import stat
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate

from libernet.blocks.documents import (
    Document,
    FileEntry,
    FolderEntry,
    Listing,
    Page,
    Part,
    parse_contents_list,
    parse_document,
    parse_page,
)
from libernet.blocks.entries import Attributes
from libernet.blocks.reference import Reference
from libernet.fs.chunks import ChunkCache
from libernet.fs.nodes import Appearance, FileNode, FolderNode, LinkNode, Node
from libernet.fs.tree import os_error

_LISTINGS = 32
"""Parsed documents kept: at most 32 of 1 MiB each."""


class Bundles:
    """Open what references lead to.

    State: _listings, parsed documents and pages by reference, the least recently used first.
    """

    def __init__(self, chunks: ChunkCache) -> None:
        self.chunks = chunks
        self._listings: OrderedDict[Reference, Listing] = OrderedDict()

    def folder(self, reference: Reference, appearance: Appearance) -> "BundleFolder":
        """Return the folder that *reference* opens; nothing is fetched before it is looked into."""
        return BundleFolder(self, appearance, reference=reference)

    async def document(self, reference: Reference) -> Document:
        """Return the document of a folder; FormatError when the block is none."""
        listing = self._kept(reference)
        if isinstance(listing, Document):
            return listing
        document = parse_document(await self.chunks.get(reference))
        self._keep(reference, document)
        return document

    async def page(self, page: Page) -> Listing:
        """Return what a page of a wide folder lists."""
        reference = page.reference()
        listing = self._kept(reference)
        if listing is None:
            listing = parse_page(await self.chunks.get(reference), page)
            self._keep(reference, listing)
        return listing

    def _kept(self, reference: Reference) -> Listing | None:
        listing = self._listings.get(reference)
        if listing is not None:
            self._listings.move_to_end(reference)
        return listing

    def _keep(self, reference: Reference, listing: Listing) -> None:
        self._listings[reference] = listing
        if len(self._listings) > _LISTINGS:
            self._listings.popitem(last=False)


class BundleFolder(FolderNode):
    """A folder whose document is inlined in its parent's, or fetched when it is looked into."""

    __slots__ = ("_bundles", "_document", "_reference")

    def __init__(
        self,
        bundles: Bundles,
        appearance: Appearance,
        *,
        document: Document | None = None,
        reference: Reference | None = None,
    ) -> None:
        super().__init__(appearance)
        self._bundles = bundles
        self._document = document
        self._reference = reference

    async def lookup(self, name: bytes) -> Node:
        listing: Listing = await self._listing()
        while listing.pages:
            page = listing.page_of(name)
            if page is None:
                raise os_error(errno.ENOENT)
            listing = await self._bundles.page(page)
        entry = listing.find(name)
        if entry is None:
            raise os_error(errno.ENOENT)
        return self._node(entry)

    async def children(self, after: bytes, limit: int) -> Sequence[tuple[bytes, Node]]:
        found: list[tuple[bytes, Node]] = []
        await self._collect(await self._listing(), after, limit, found)
        return found

    async def _collect(
        self, listing: Listing, after: bytes, limit: int, found: list[tuple[bytes, Node]]
    ) -> None:
        """Add entries behind *after* to *found*, up to *limit*."""
        for page in listing.pages:
            if page.before is not None and page.before <= after:
                continue
            await self._collect(await self._bundles.page(page), after, limit, found)
            if len(found) >= limit:
                return
        names = sorted(name for name in (*listing.files, *listing.folders) if name > after)
        for name in names[: limit - len(found)]:
            entry = listing.find(name)
            assert entry is not None
            found.append((name, self._node(entry)))

    async def _listing(self) -> Document:
        if self._document is None:
            assert self._reference is not None
            return await self._bundles.document(self._reference)
        return self._document

    def _node(self, entry: FileEntry | FolderEntry) -> Node:
        if isinstance(entry, FolderEntry):
            appearance = _appearance(entry.attributes, 0)
            if entry.document is not None:
                return BundleFolder(self._bundles, appearance, document=entry.document)
            return BundleFolder(self._bundles, appearance, reference=entry.reference())
        appearance = _appearance(entry.attributes(), entry.size)
        kind = stat.S_IFMT(appearance.mode)
        if kind == stat.S_IFLNK:
            return BundleLink(appearance, entry.target())
        if kind == stat.S_IFREG:
            return BundleFile(self._bundles.chunks, appearance, entry)
        return Node(appearance)


class BundleLink(LinkNode):
    """A symbolic link in a bundle, shown as it was stored and never followed here."""

    __slots__ = ("_target",)

    def __init__(self, appearance: Appearance, target: bytes) -> None:
        super().__init__(appearance)
        self._target = target

    def target(self) -> bytes:
        return self._target


class BundleFile(FileNode):
    """A file in a bundle.

    State: _parts, its parts in file order, known when it is read first; _ends, the offset at which
    each ends.
    """

    __slots__ = ("_chunks", "_ends", "_entry", "_parts")

    def __init__(self, chunks: ChunkCache, appearance: Appearance, entry: FileEntry) -> None:
        super().__init__(appearance)
        self._chunks = chunks
        self._entry = entry
        self._parts: list[Part] | None = None
        self._ends: list[int] = []

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        end = min(offset + size, self.appearance.size)
        if offset >= end:
            return b""
        pieces = []
        for part, begin in self._overlapping(await self._load_parts(), offset, end):
            skip, stop = max(offset - begin, 0), min(end - begin, part.size)
            pieces.append(await self._bytes(part, skip, stop))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_ahead(self, offset: int, length: int) -> None:
        for part, _ in self._overlapping(self._parts or [], offset, offset + length):
            if part.reference is not None:
                self._chunks.prefetch(part.reference)

    async def _bytes(self, part: Part, skip: int, stop: int) -> bytes | memoryview:
        if part.reference is None:
            return bytes(stop - skip)
        chunk = await self._chunks.get(part.reference)
        if len(chunk) != part.size:
            raise os_error(errno.EIO)  # the document lied about the chunk
        return memoryview(chunk)[skip:stop]

    async def _load_parts(self) -> list[Part]:
        if self._parts is None:
            parts = []
            if self._entry.spilled:
                for each in self._entry.part_lists():
                    assert each.reference is not None
                    plaintext = await self._chunks.get(each.reference)
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


def _appearance(attributes: Attributes, size: int) -> Appearance:
    return Appearance(
        mode=attributes.mode,
        size=size,
        uid=attributes.uid,
        gid=attributes.gid,
        mtime_ns=attributes.mtime_ns,
        nlink=2 if stat.S_ISDIR(attributes.mode) else 1,
        rdev=attributes.rdev,
    )

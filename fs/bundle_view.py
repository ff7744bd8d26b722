"""Bundles as folders: what documents list, read through the chunk cache.

The same code shows snapshots, addresses and bundles that were opened.
"""

import errno
import os
import stat
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import trio

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
from libernet.blocks.errors import LibernetError, PeerTimeout
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
from libernet.blocks.source import Origin
from libernet.fs.bundle_ahead import SmallFiles, Subfolders
from libernet.fs.chunks import ChunkCache
from libernet.fs.nodes import Appearance, FileNode, FolderNode, LinkNode, Node
from libernet.fs.tree import os_error

_LISTINGS = 32
"""Parsed documents kept: at most 32 of 1 MiB each."""

_LARGE_READ_BYTES = 128 * 1024
"""What cp, cat and dd begin with, and nobody who only looks into a file."""

_FIRST_AHEAD_BYTES = 6 * 1024 * 1024
"""What they get at once, on as many connections to one peer as there are: waiting for the first
chunk before took 0.4 s at a round trip of 50 ms, since each new connection starts slowly."""

LOOK_SECONDS = 5.0
"""How long a look into a folder waits for its document. The fetch goes on: the next look may find
it here. The kernel lets one look-up in a folder wait at a time, and a caller of it cannot be
killed."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A parsed document or page, and its small files and folders in order."""

    listing: Listing
    small_files: SmallFiles
    subfolders: Subfolders


class Bundles:
    """Open what references lead to.

    State: _opened, parsed documents and pages by reference, the least recently used first.
    *is_here* says whether a block can be had without asking anybody.
    """

    def __init__(self, chunks: ChunkCache, is_here: Callable[[BlockId], bool]) -> None:
        self.chunks = chunks
        self._is_here = is_here
        self._opened: OrderedDict[Reference, _Opened] = OrderedDict()

    def folder(self, reference: Reference, appearance: Appearance) -> "BundleRoot":
        """Return the folder that *reference* opens; nothing is fetched before it is looked into.

        It has *appearance* until its document was read.
        """
        kept = self._kept(reference)
        if kept is not None and isinstance(kept.listing, Document):
            appearance = _appearance(kept.listing.attributes, 0)
        return BundleRoot(self, appearance, Origin(reference.id), reference=reference)

    def is_here(self, reference: Reference) -> bool:
        """Say whether a folder's document can be had without asking anybody."""
        return reference in self._opened or self._is_here(reference.id)

    async def document(self, reference: Reference, origin: Origin) -> _Opened:
        """Return the document of a folder; FormatError when the block is none."""
        opened = self._kept(reference)
        if opened is None or not isinstance(opened.listing, Document):
            document = parse_document(await self._plaintext(reference, origin))
            opened = self._keep(reference, document)
        return opened

    async def page(self, page: Page, origin: Origin) -> _Opened:
        """Return what a page of a wide folder lists."""
        reference = page.reference()
        opened = self._kept(reference)
        if opened is None:
            listing = parse_page(await self._plaintext(reference, origin), page)
            opened = self._keep(reference, listing)
        return opened

    async def _plaintext(self, reference: Reference, origin: Origin) -> bytes:
        with trio.move_on_after(LOOK_SECONDS):
            return await self.chunks.get(reference, origin)
        raise PeerTimeout(f"the document {reference.id} did not come within {LOOK_SECONDS:g} s")

    def _kept(self, reference: Reference) -> _Opened | None:
        opened = self._opened.get(reference)
        if opened is not None:
            self._opened.move_to_end(reference)
        return opened

    def _keep(self, reference: Reference, listing: Listing) -> _Opened:
        opened = _Opened(listing, SmallFiles(listing), Subfolders(listing))
        self._opened[reference] = opened
        if len(self._opened) > _LISTINGS:
            self._opened.popitem(last=False)
        return opened


class BundleFolder(FolderNode):
    """A folder whose document is inlined in its parent's, or fetched when it is looked into."""

    __slots__ = ("_ahead", "_bundles", "_opened", "_origin", "_reference")

    def __init__(
        self,
        bundles: Bundles,
        appearance: Appearance,
        origin: Origin,
        *,
        opened: _Opened | None = None,
        reference: Reference | None = None,
        ahead: Callable[[], list[list[Reference]]] = list,
    ) -> None:
        """Make one of *opened* or *reference*; *ahead* says what to bring when it is listed."""
        super().__init__(appearance)
        self._bundles = bundles
        self._origin = origin
        self._opened = opened
        self._reference = reference
        self._ahead = ahead

    async def lookup(self, name: bytes) -> Node:
        opened = await self._open()
        while opened.listing.pages:
            page = opened.listing.page_of(name)
            if page is None:
                raise os_error(errno.ENOENT)
            opened = await self._bundles.page(page, self._origin)
        entry = opened.listing.find(name)
        if entry is None:
            raise os_error(errno.ENOENT)
        return self._node(name, entry, opened)

    async def children(self, after: bytes, limit: int) -> Sequence[tuple[bytes, Node]]:
        found: list[tuple[bytes, Node]] = []
        if not after:
            # Whoever lists a folder is likely to go on to the next; who looks up a name is not.
            for batch in self._ahead():
                self._bundles.chunks.bring(batch, self._origin)
        await self._collect(await self._open(), after, limit, found)
        return found

    async def _collect(
        self, opened: _Opened, after: bytes, limit: int, found: list[tuple[bytes, Node]]
    ) -> None:
        """Add entries behind *after* to *found*, up to *limit*."""
        listing = opened.listing
        for page in listing.pages:
            if page.before is not None and page.before <= after:
                continue
            opened_page = await self._bundles.page(page, self._origin)
            await self._collect(opened_page, after, limit, found)
            if len(found) >= limit:
                return
        names = sorted(name for name in (*listing.files, *listing.folders) if name > after)
        for name in names[: limit - len(found)]:
            entry = listing.find(name)
            assert entry is not None
            found.append((name, self._node(name, entry, opened)))

    async def _open(self) -> _Opened:
        if self._opened is not None:
            return self._opened
        assert self._reference is not None
        return await self._bundles.document(self._reference, self._origin)

    def _node(self, name: bytes, entry: FileEntry | FolderEntry, opened: _Opened) -> Node:
        origin = Origin(self._origin.root, f"{self._origin.path}/{os.fsdecode(name)}")
        if isinstance(entry, FolderEntry):
            appearance = _appearance(entry.attributes, 0)
            if entry.document is None:
                reference = entry.reference()
                return BundleFolder(
                    self._bundles,
                    appearance,
                    origin,
                    reference=reference,
                    ahead=partial(opened.subfolders.from_here, entry),
                )
            inlined = _Opened(entry.document, opened.small_files, opened.subfolders)
            return BundleFolder(self._bundles, appearance, origin, opened=inlined)
        appearance = _appearance(entry.attributes(), entry.size)
        kind = stat.S_IFMT(appearance.mode)
        if kind == stat.S_IFLNK:
            return BundleLink(appearance, entry.target())
        if kind == stat.S_IFREG:
            return BundleFile(self._bundles.chunks, appearance, entry, origin, opened.small_files)
        return Node(appearance)


class BundleRoot(BundleFolder):
    """The folder that a reference opens; it looks as its document says once that was read."""

    __slots__ = ()
    is_lasting = False

    @property
    def identity(self) -> Reference:
        assert self._reference is not None
        return self._reference

    async def look_here(self) -> None:
        """Read the document if it is on this machine; else nothing is asked for."""
        if self._bundles.is_here(self.identity):
            with suppress(LibernetError):  # whoever looks into the folder is told
                await self._open()

    async def _open(self) -> _Opened:
        opened = await super()._open()
        assert isinstance(opened.listing, Document)
        self.appearance = _appearance(opened.listing.attributes, 0)
        return opened


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

    __slots__ = ("_chunks", "_ends", "_entry", "_origin", "_parts", "_small_files")

    def __init__(
        self,
        chunks: ChunkCache,
        appearance: Appearance,
        entry: FileEntry,
        origin: Origin,
        small_files: SmallFiles,
    ) -> None:
        super().__init__(appearance)
        self._chunks = chunks
        self._entry = entry
        self._origin = origin
        self._small_files = small_files
        self._parts: list[Part] | None = None
        self._ends: list[int] = []

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        end = min(offset + size, self.appearance.size)
        if offset >= end:
            return b""
        pieces = []
        parts = await self._load_parts()
        ahead_bytes = _FIRST_AHEAD_BYTES if offset == 0 and size >= _LARGE_READ_BYTES else 0
        self._prefetch(self._overlapping(parts, offset, end + ahead_bytes)[1:])
        for part, begin in self._overlapping(parts, offset, end):
            skip, stop = max(offset - begin, 0), min(end - begin, part.size)
            pieces.append(await self._bytes(part, skip, stop))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_ahead(self, offset: int, length: int) -> None:
        self._prefetch(self._overlapping(self._parts or [], offset, offset + length))

    def _prefetch(self, parts: Sequence[tuple[Part, int]]) -> None:
        for part, _ in parts:
            if part.reference is not None:
                self._chunks.prefetch(part.reference, self._origin)

    async def _bytes(self, part: Part, skip: int, stop: int) -> bytes | memoryview:
        if part.reference is None:
            return bytes(stop - skip)
        chunk = await self._chunks.get(part.reference, self._origin)
        if len(chunk) != part.size:
            raise os_error(errno.EIO)  # the document lied about the chunk
        return memoryview(chunk)[skip:stop]

    async def _load_parts(self) -> list[Part]:
        if self._parts is None:
            for batch in self._small_files.from_here(self._entry):
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

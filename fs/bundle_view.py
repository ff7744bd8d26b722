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
from dataclasses import replace
from functools import partial

import trio

from libernet.blocks.documents import (
    Attributes,
    Document,
    FileEntry,
    FolderEntry,
    Listing,
    Page,
    parse_document,
    parse_page,
)
from libernet.blocks.errors import FormatError, LibernetError, PeerTimeout, UnknownVersion
from libernet.blocks.flat_bundles import MAX_ENTRIES, FlatBundle, parse_bundle
from libernet.blocks.flat_tree import FlatTree
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
from libernet.blocks.source import Origin
from libernet.fs.bundle_ahead import SmallFiles, Subfolders
from libernet.fs.bundle_files import BundleFile, BundleLink, Place, appearance_of
from libernet.fs.bundle_growth import LOOK_SECONDS, BundleParser, Growth
from libernet.fs.bundle_xattrs import BundleXattrs
from libernet.fs.chunks import ChunkCache
from libernet.fs.nodes import (
    NO_XATTRS,
    Appearance,
    BrokenFolder,
    FolderNode,
    Incomplete,
    Node,
    NodeXattrs,
)
from libernet.fs.opened_documents import OpenedDocument
from libernet.fs.tree import os_error

_LISTINGS = 32
_LISTED_BYTES = 4 * 1024 * 1024
"""Parsed documents kept, and what they may have of JSON: parsed, that takes some eight times as
much memory."""


class Bundles:
    """Open what references lead to.

    State: _opened, parsed documents and pages by reference, the least recently used first.
    *is_here* says whether a block can be had without asking anybody. The files of the original's
    bundles, which name no owner, belong to *owner*.
    """

    def __init__(
        self, chunks: ChunkCache, is_here: Callable[[BlockId], bool], *, owner: tuple[int, int]
    ) -> None:
        self.chunks = chunks
        self._is_here = is_here
        self._parser = BundleParser(owner)
        self._opened: OrderedDict[Reference, OpenedDocument] = OrderedDict()

    def folder(self, reference: Reference, appearance: Appearance) -> "BundleRoot":
        """Return the folder that *reference* opens; nothing is fetched before it is looked into.

        It has *appearance* until its document was read.
        """
        root = BundleRoot(self, appearance, Origin(reference.id), reference=reference)
        kept = self._kept(reference)
        if kept is not None and isinstance(kept.listing, Document):
            root.look_like(kept.listing.attributes)
        return root

    def is_here(self, reference: Reference) -> bool:
        """Say whether a folder's document can be had without asking anybody."""
        return reference in self._opened or self._is_here(reference.id)

    async def document(self, reference: Reference, origin: Origin) -> OpenedDocument:
        """Return the document of a folder; FormatError when the block is none."""
        opened = self._kept(reference)
        if opened is not None and isinstance(opened.listing, Document):
            return opened
        plaintext = await self._plaintext(reference, origin)
        try:
            return self._keep(reference, parse_document(plaintext), len(plaintext))
        except UnknownVersion:
            raise
        except FormatError:
            return await self._flat(reference, plaintext)

    async def _flat(self, reference: Reference, plaintext: bytes) -> OpenedDocument:
        """Return what opens a bundle of the original's; FormatError when it is none."""
        owner = self._parser.owner
        bundle = await self._parser.parse(lambda each: parse_bundle(each, owner), plaintext)
        opened = self._kept(reference)
        if opened is not None and opened.growth is not None:
            return opened  # somebody else was faster
        assert isinstance(bundle, FlatBundle), "documents of ours were tried before"
        growth = Growth(
            FlatTree(reference, bundle),
            Origin(reference.id),
            chunks=self.chunks,
            parser=self._parser,
            is_here=self._is_here,
        )
        return self._keep(
            reference, bundle.document, len(plaintext), growth=growth, index=bundle.index
        )

    async def page(self, page: Page, origin: Origin) -> OpenedDocument:
        """Return what a page of a wide folder lists."""
        reference = page.reference()
        opened = self._kept(reference)
        if opened is None or opened.page != page:  # other folders may list it as something else
            plaintext = await self._plaintext(reference, origin)
            opened = self._keep(reference, parse_page(plaintext, page), len(plaintext))
            opened.page = page
        return opened

    async def _plaintext(self, reference: Reference, origin: Origin) -> bytes:
        with trio.move_on_after(LOOK_SECONDS):
            return await self.chunks.get(reference, origin)
        raise PeerTimeout(f"the document {reference.id} did not come within {LOOK_SECONDS:g} s")

    def _kept(self, reference: Reference) -> OpenedDocument | None:
        opened = self._opened.get(reference)
        if opened is not None:
            self._opened.move_to_end(reference)
        return opened

    def _keep(
        self,
        reference: Reference,
        listing: Listing,
        json_bytes: int,
        *,
        growth: Growth | None = None,
        index: bytes | None = None,
    ) -> OpenedDocument:
        small_files = growth or SmallFiles(listing)
        opened = OpenedDocument(
            listing, small_files, Subfolders(listing), json_bytes, growth, index
        )
        self._opened[reference] = opened
        self._opened.move_to_end(reference)
        while len(self._opened) > 1 and self._is_too_much():
            self._opened.popitem(last=False)
        return opened

    def _is_too_much(self) -> bool:
        opened = self._opened.values()
        return (
            len(opened) > _LISTINGS
            or sum([each.json_bytes for each in opened]) > _LISTED_BYTES
            or sum([each.entries for each in opened]) > MAX_ENTRIES
        )


class BundleFolder(FolderNode):
    """A folder whose document is inlined in its parent's, or fetched when it is looked into."""

    __slots__ = ("_ahead", "_bundles", "_opened", "_origin", "_place", "_reference")

    def __init__(
        self,
        bundles: Bundles,
        appearance: Appearance,
        origin: Origin,
        *,
        opened: OpenedDocument | None = None,
        reference: Reference | None = None,
        ahead: Callable[[], list[list[Reference]]] = list,
        xattrs: NodeXattrs = NO_XATTRS,
        place: Place | None = None,
    ) -> None:
        """Make one of *opened*, inlined in the document at *place*, or of *reference*.

        *ahead* says what to bring when it is listed.
        """
        super().__init__(appearance, xattrs)
        if reference is not None:
            place = Place(reference, origin.path)
        assert place is not None
        self._place = place
        self._bundles = bundles
        self._origin = origin
        self._opened = opened
        self._reference = reference
        self._ahead = ahead

    @property
    def tree(self) -> Document | Reference:
        """What lists it: a document, or what opens one."""
        if self._reference is not None:
            return self._reference
        assert self._opened is not None
        assert isinstance(self._opened.listing, Document)
        return self._opened.listing

    @property
    def origin(self) -> Origin:
        """What its blocks are wanted for."""
        return self._origin

    def address(self) -> str:
        return self._place.address(self._origin)

    async def lookup(self, name: bytes) -> Node:
        opened = await self._list_of(name)
        entry = opened.listing.find(name) or await opened.find_later(name)
        return self._node(name, entry, opened)

    async def at(self, first: bytes, place: int) -> Node:
        opened = await self._list_of(first)
        name = opened.names[place]
        return self._node(name, opened.entry(name), opened)

    async def children(self, after: bytes, limit: int) -> Sequence[tuple[bytes, Node]]:
        found: list[tuple[bytes, Node]] = []
        if not after:
            # Whoever lists a folder is likely to go on to the next; who looks up a name is not.
            for batch in self._ahead():
                self._bundles.chunks.bring(batch, self._origin)
        opened = await self._open()
        lacking = None
        if opened.growth is not None:
            lacking = opened.growth.lacking() if after else await opened.growth.grow()
        until = trio.current_time() + LOOK_SECONDS
        lacking = await self._collect(opened, after, limit, found, until) or lacking
        if lacking is None:
            return found
        if not found:
            raise lacking
        return Incomplete(found, lacking)

    async def _collect(
        self,
        opened: OpenedDocument,
        after: bytes,
        limit: int,
        found: list[tuple[bytes, Node]],
        until: float,
    ) -> LibernetError | None:
        """Add entries behind *after* to *found*, up to *limit*; return why some are lacking.

        The pages behind one that cannot be had are looked into *until* a time.
        """
        lacking = None
        for page in opened.listing.pages:
            if page.before is not None and page.before <= after:
                continue
            try:
                opened_page = await self._bundles.page(page, self._origin)
            except LibernetError as error:
                lacking = error
            else:
                lacking = await self._collect(opened_page, after, limit, found, until) or lacking
            if len(found) >= limit or (lacking is not None and trio.current_time() >= until):
                return lacking
        names = opened.names
        start = bisect_right(names, after)
        for name in names[start : start + limit - len(found)]:
            found.append((name, self._node(name, opened.entry(name), opened)))
        return lacking

    async def _list_of(self, name: bytes) -> OpenedDocument:
        """Return the document or page that has a name if any has."""
        opened = await self._open()
        while opened.listing.pages:
            page = opened.listing.page_of(name)
            if page is None:
                raise os_error(errno.ENOENT)
            opened = await self._bundles.page(page, self._origin)
        return opened

    async def _open(self) -> OpenedDocument:
        if self._opened is not None:
            return self._opened
        assert self._reference is not None
        return await self._bundles.document(self._reference, self._origin)

    def _node(self, name: bytes, entry: FileEntry | FolderEntry, opened: OpenedDocument) -> Node:
        origin = Origin(self._origin.root, f"{self._origin.path}/{os.fsdecode(name)}")
        if isinstance(entry, FolderEntry):
            node = self._folder_node(entry, origin, opened)
        else:
            node = self._file_node(entry, origin, opened)
        node.spot = opened.spot(name)
        return node

    def _folder_node(self, entry: FolderEntry, origin: Origin, opened: OpenedDocument) -> Node:
        appearance = appearance_of(entry.attributes, 0)
        xattrs = self._xattrs(entry.attributes, origin)
        if entry.document is None:
            try:
                reference = entry.reference()
            except FormatError as error:
                return BrokenFolder(appearance, error, xattrs)
            folder = BundleFolder(
                self._bundles,
                appearance,
                origin,
                reference=reference,
                ahead=partial(opened.subfolders.from_here, entry),
                xattrs=xattrs,
            )
        else:
            inlined = replace(opened, listing=entry.document, page=None)
            folder = BundleFolder(
                self._bundles, appearance, origin, opened=inlined, xattrs=xattrs, place=self._place
            )
        folder.document_bytes = opened.json_bytes
        return folder

    def _file_node(self, entry: FileEntry, origin: Origin, opened: OpenedDocument) -> Node:
        appearance = appearance_of(entry.unix, entry.size)
        xattrs = NO_XATTRS
        if entry.has_xattrs:
            xattrs = BundleXattrs(self._bundles.chunks, entry.attributes, origin)
        kind = stat.S_IFMT(appearance.mode)
        if kind == stat.S_IFLNK:
            return BundleLink(appearance, entry.target(), xattrs)
        if kind == stat.S_IFREG:
            chunks, ahead = self._bundles.chunks, opened.small_files
            return BundleFile(chunks, appearance, entry, origin, ahead, xattrs, self._place)
        return Node(appearance, xattrs)

    def _xattrs(self, attributes: Attributes, origin: Origin) -> NodeXattrs:
        if not (attributes.xattr or attributes.xattr_urls):
            return NO_XATTRS
        return BundleXattrs(self._bundles.chunks, lambda: attributes, origin)


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

    async def index(self) -> bytes | None:
        return (await self._open()).index

    async def _open(self) -> OpenedDocument:
        opened = await super()._open()
        assert isinstance(opened.listing, Document)
        self.look_like(opened.listing.attributes)
        return opened

    def look_like(self, attributes: Attributes) -> None:
        """Show the attributes that stand in the document."""
        self.appearance = appearance_of(attributes, 0)
        self.xattrs = self._xattrs(attributes, self._origin)

"""Which blocks a path in a bundle needs that are not here: of ours and of the original's alike."""

from collections.abc import Callable, Sequence

from libernet.blocks.documents import (
    Attributes,
    Document,
    FileEntry,
    FolderEntry,
    Listing,
    parse_contents_list,
    parse_document,
    parse_page,
)
from libernet.blocks.entries import Part
from libernet.blocks.errors import FormatError
from libernet.blocks.flat_bundles import FlatBundle, parse_bundle, parse_sub_bundle
from libernet.blocks.flat_entries import FlatEntry
from libernet.blocks.flat_tree import FlatTree
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference

_NOBODY = (0, 0)  # whose files they are makes no difference here


def missing(
    reference: Reference,
    path: Sequence[bytes],
    has: Callable[[BlockId], bool],
    read: Callable[[Reference], bytes],
) -> list[str] | None:
    """Return the addresses `/sha256/ID`, without keys, of the blocks that *path* needs.

    *reference* opens the bundle, and *path* leads from its top folder to a file, or to a folder
    with all that is in it. None: the path is certainly not in the bundle. Empty: all is here.
    Where documents are missing, only they can be named: ask again when they are here. *has* says
    whether a block is here; *read* returns the plaintext of one that is, and what it raises goes
    through. Raises FormatError for a malformed document in which the path would be.
    """
    search = _Search(has, read)
    is_in_bundle = search.look(reference, path)
    return [f"/sha256/{block_id}" for block_id in search.missing] if is_in_bundle else None


class _Search:
    """Go through documents for what is not here.

    State: missing, ids in the order in which they were met; _seen, references of documents that
    were gone through.
    """

    def __init__(self, has: Callable[[BlockId], bool], read: Callable[[Reference], bytes]) -> None:
        self.missing: dict[BlockId, None] = {}
        self._has = has
        self._read = read
        self._seen: set[Reference] = set()

    def look(self, reference: Reference, path: Sequence[bytes]) -> bool:
        """Note what *path* needs; return whether it is, or may be, in the bundle."""
        plaintext = self._plaintext(reference)
        if plaintext is None:
            return True
        bundle = parse_bundle(plaintext, _NOBODY)
        if isinstance(bundle, FlatBundle):
            return self._look_in_flat(FlatTree(reference, bundle), path)
        found = self._follow(bundle, path)
        if found is not None:
            self._need(found)
        return found is not None or bool(self.missing)

    def _look_in_flat(self, tree: FlatTree, path: Sequence[bytes]) -> bool:
        """Look in sub-bundles too until the file is found; a folder may go on in all of them."""
        absent: dict[BlockId, None] = {}
        folder = tree.document.attributes
        refused: FormatError | None = None
        found = self._follow(tree.document, path)
        waiting = tree.pending
        while waiting and not isinstance(found, FileEntry):
            reference = waiting.pop()
            if not self._has(reference.id):
                absent[reference.id] = None
                continue
            plaintext = self._read(reference)
            try:
                waiting += tree.add(reference, parse_sub_bundle(plaintext, _NOBODY, folder))
            except FormatError as exc:
                refused = exc
            found = self._follow(tree.document, path)
        if isinstance(found, FileEntry):
            self._need(found)
            return True
        if refused is not None:
            raise refused
        self.missing.update(absent)
        if found is not None:
            self._need(found)
        return found is not None or bool(absent)

    def _follow(self, top: Listing, path: Sequence[bytes]) -> FileEntry | Listing | None:
        """Return the file or the folder's listing that *path* leads to.

        None: there is none, or it is not known because a document is missing, which is noted.
        """
        listing: Listing | None = top
        for place, name in enumerate(path, start=1):
            assert listing is not None
            entry = self._find(listing, name)
            if isinstance(entry, FileEntry):
                return entry if place == len(path) else None
            listing = None if entry is None else self._listing(entry)
            if listing is None:
                return None
        return listing

    def _find(self, listing: Listing, name: bytes) -> FileEntry | FolderEntry | None:
        while listing.pages:
            page = listing.page_of(name)
            plaintext = None if page is None else self._plaintext(page.reference())
            if page is None or plaintext is None:
                return None
            listing = parse_page(plaintext, page)
        return listing.find(name)

    def _need(self, found: FileEntry | Listing) -> None:
        """Note what a file needs, or all that is in a folder."""
        if isinstance(found, FileEntry):
            self._need_file(found)
            return
        waiting = [found]
        while waiting:
            thing = waiting.pop()
            if isinstance(thing, Document):
                self._need_values(thing.attributes)
            for page in thing.pages:
                plaintext = self._plaintext(page.reference())
                if plaintext is not None:
                    waiting.append(parse_page(plaintext, page))
            for folder in thing.folders.values():
                listing = self._listing_once(folder)
                if listing is not None:
                    waiting.append(listing)
            for file in thing.files.values():
                self._need_file(file)

    def _need_file(self, entry: FileEntry) -> None:
        if entry.spilled:
            for each in entry.part_lists():
                assert each.reference is not None
                plaintext = self._plaintext(each.reference)
                if plaintext is not None:
                    self._need_parts(parse_contents_list(plaintext, size=each.size))
        else:
            self._need_parts(entry.parts())
        self._need_values(entry.attributes())
        if isinstance(entry, FlatEntry):
            self._need_parts([keys.part() for keys in entry.rsrc or ()])

    def _need_values(self, attributes: Attributes) -> None:
        for reference in attributes.xattr_urls.values():
            self._need_block(reference)

    def _need_parts(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if part.reference is not None:
                self._need_block(part.reference)

    def _need_block(self, reference: Reference) -> bool:
        """Note a block if it is not here; return whether it is."""
        is_here = self._has(reference.id)
        if not is_here:
            self.missing[reference.id] = None
        return is_here

    def _plaintext(self, reference: Reference) -> bytes | None:
        """Return a document, None where it is missing, which is noted."""
        return self._read(reference) if self._need_block(reference) else None

    def _listing(self, folder: FolderEntry) -> Listing | None:
        """Return what a folder lists, None where its document is missing, which is noted."""
        if folder.document is not None:
            return folder.document
        plaintext = self._plaintext(folder.reference())
        return None if plaintext is None else parse_document(plaintext)

    def _listing_once(self, folder: FolderEntry) -> Listing | None:
        """Return what a folder lists; None where equal folders were gone through before."""
        if folder.document is None:
            reference = folder.reference()
            if reference in self._seen:
                return None
            self._seen.add(reference)
        return self._listing(folder)

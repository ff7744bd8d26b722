"""Everything that a bundle needs: the blocks that must stay so that it can be read."""

from collections.abc import Callable, Iterable, Iterator

from libernet.blocks.documents import (
    Document,
    FileEntry,
    Listing,
    Page,
    parse_contents_list,
    parse_document,
    parse_page,
)
from libernet.blocks.flat_bundles import FlatBundle, parse_bundle, parse_sub_bundle
from libernet.blocks.flat_entries import FlatEntry
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference

_NOBODY = (0, 0)  # whose files they are makes no difference here


class Needs:
    """Walk through bundles, ours and the original's, to every block that they need.

    *read* returns the plaintext of a document; *enter* is told its block, and says whether it is
    met for the first time: what was walked through once is not walked through again, in whatever
    bundle it stands.
    """

    def __init__(
        self, read: Callable[[Reference], bytes], enter: Callable[[BlockId], bool]
    ) -> None:
        self._read = read
        self._enter = enter

    def of(self, reference: Reference) -> Iterator[BlockId]:
        """Yield the ids of all blocks that the bundle needs, apart from those given to *enter*.

        Raises FormatError for a malformed document, and what *read* raises.
        """
        if not self._enter(reference.id):
            return
        bundle = parse_bundle(self._read(reference), _NOBODY)
        if isinstance(bundle, FlatBundle):
            yield from self._of_flat(bundle)
        else:
            yield from self._of_listing(bundle)

    def _of_listing(self, top: Listing) -> Iterator[BlockId]:
        waiting = [top]
        while waiting:
            listing = waiting.pop()
            if isinstance(listing, Document):
                yield from (each.id for each in listing.attributes.xattr_urls.values())
            for file in listing.files.values():
                yield from self._of_file(file)
            waiting.extend(self._pages(listing.pages))
            for folder in listing.folders.values():
                if folder.document is not None:
                    waiting.append(folder.document)
                elif self._enter(folder.reference().id):
                    waiting.append(parse_document(self._read(folder.reference())))

    def _pages(self, pages: Iterable[Page]) -> Iterator[Listing]:
        for page in pages:
            if self._enter(page.reference().id):
                yield parse_page(self._read(page.reference()), page)

    def _of_flat(self, top: FlatBundle) -> Iterator[BlockId]:
        waiting = [top]
        while waiting:
            bundle = waiting.pop()
            yield from self._of_listing(bundle.document)
            for reference in bundle.bundles:
                if self._enter(reference.id):
                    folder = top.document.attributes
                    waiting.append(parse_sub_bundle(self._read(reference), _NOBODY, folder))

    def _of_file(self, entry: FileEntry) -> Iterator[BlockId]:
        parts = [] if entry.spilled else entry.parts()
        for each in entry.part_lists():
            assert each.reference is not None
            if self._enter(each.reference.id):
                parts += parse_contents_list(self._read(each.reference), size=each.size)
        if isinstance(entry, FlatEntry):
            parts += [keys.part() for keys in entry.rsrc or ()]
            yield from (each.id for each in entry.xattr_references().values())
        yield from (each.id for each in entry.attributes().xattr_urls.values())
        yield from (part.reference.id for part in parts if part.reference is not None)

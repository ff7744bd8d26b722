"""Everything that a bundle needs: the blocks that must stay so that it can be read."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

from libernet.blocks.documents import (
    Document,
    FileEntry,
    Listing,
    Page,
    parse_contents_list,
    parse_document,
    parse_page,
)
from libernet.blocks.errors import LibernetError
from libernet.blocks.flat_bundles import FlatBundle, parse_bundle, parse_sub_bundle
from libernet.blocks.flat_entries import FlatEntry
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference

_NOBODY = (0, 0)  # whose files they are makes no difference here

_Parsed = TypeVar("_Parsed")


class Needs:
    """Walk through bundles, ours and the original's, to every block that they need.

    *read* returns the plaintext of a document; *enter* is told its block, and says whether it is
    met for the first time: what was walked through once is not walked through again, in whatever
    bundle it stands. A document that cannot be read ends the walk with the error, unless there is
    somebody to tell it to: then the walk goes on without that document.
    """

    def __init__(
        self,
        read: Callable[[Reference], bytes],
        enter: Callable[[BlockId], bool],
        *,
        unreadable: Callable[[Reference, LibernetError], None] | None = None,
    ) -> None:
        self._read = read
        self._enter = enter
        self._unreadable = unreadable

    def of(self, reference: Reference) -> Iterator[BlockId]:
        """Yield the ids of all blocks that the bundle needs, apart from those given to *enter*.

        Raises FormatError for a malformed document, and what *read* raises.
        """
        if not self._enter(reference.id):
            return
        for bundle in self._parsed(reference, parse_bundle, _NOBODY):
            if isinstance(bundle, FlatBundle):
                yield from self._of_flat(bundle)
            else:
                yield from self._of_listing(bundle)

    def _parsed(
        self, reference: Reference, parse: Callable[..., _Parsed], *context: object
    ) -> list[_Parsed]:
        """Return what *parse* finds in a document, nothing when it cannot be read."""
        try:
            return [parse(self._read(reference), *context)]
        except LibernetError as exc:
            if self._unreadable is None:
                raise
            self._unreadable(reference, exc)
            return []

    def _of_listing(self, top: Listing) -> Iterator[BlockId]:
        # What opens them waits, and not the documents: there may be thousands below one.
        waiting: list[Listing | Page | Reference] = [top]
        while waiting:
            for listing in self._opened(waiting.pop()):
                if isinstance(listing, Document):
                    yield from (each.id for each in listing.attributes.xattr_urls.values())
                for file in listing.files.values():
                    yield from self._of_file(file)
                waiting.extend(page for page in listing.pages if self._enter(page.reference().id))
                for folder in listing.folders.values():
                    if folder.document is not None:
                        waiting.append(folder.document)
                    elif self._enter(folder.reference().id):
                        waiting.append(folder.reference())

    def _opened(self, what: Listing | Page | Reference) -> Sequence[Listing]:
        """Return what lists entries, nothing when it cannot be read."""
        if isinstance(what, Page):
            return self._parsed(what.reference(), parse_page, what)
        if isinstance(what, Reference):
            return self._parsed(what, parse_document)
        return [what]

    def _of_flat(self, top: FlatBundle) -> Iterator[BlockId]:
        yield from self._of_listing(top.document)
        waiting = [reference for reference in top.bundles if self._enter(reference.id)]
        while waiting:
            folder = top.document.attributes
            for bundle in self._parsed(waiting.pop(), parse_sub_bundle, _NOBODY, folder):
                yield from self._of_listing(bundle.document)
                waiting.extend(each for each in bundle.bundles if self._enter(each.id))

    def _of_file(self, entry: FileEntry) -> Iterator[BlockId]:
        parts = [] if entry.spilled else entry.parts()
        for each in entry.part_lists():
            assert each.reference is not None
            if self._enter(each.reference.id):
                parse = partial(parse_contents_list, size=each.size)
                parts += chain.from_iterable(self._parsed(each.reference, parse))
        if isinstance(entry, FlatEntry):
            parts += [keys.part() for keys in entry.rsrc or ()]
        yield from (each.id for each in entry.attributes().xattr_urls.values())
        yield from (part.reference.id for part in parts if part.reference is not None)

"""Everything that a bundle needs: the blocks that must stay so that it can be read."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from libernet.blocks.documents import (
    Document,
    FileEntry,
    FolderEntry,
    Listing,
    Page,
    parse_contents_list,
    parse_document,
    parse_page,
)
from libernet.blocks.errors import FormatError, LibernetError
from libernet.blocks.flat_bundles import FlatBundle, parse_bundle, parse_sub_bundle
from libernet.blocks.flat_entries import FlatEntry
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference

_NOBODY = (0, 0)  # whose files they are makes no difference here

_MAX_PATH_BYTES = 4096  # paths are told to people; folders may be nested much deeper

_Parsed = TypeVar("_Parsed")


class Needs:
    """Walk through bundles, ours and the original's, to every block that they need.

    *read* returns the plaintext of a document; *enter* is told its block, and says whether it is
    met for the first time: what was walked through once is not walked through again, in whatever
    bundle it stands. A document that cannot be read ends the walk with the error, unless there is
    somebody to tell it to: then the walk goes on without that document. So it is with entries that
    say nonsense, which have no reference to tell.
    State: path, of what needs the block that was yielded last, from the top and with a slash before
    each name; is_found, whether there was anything at the path that was asked for.
    """

    def __init__(
        self,
        read: Callable[[Reference], bytes],
        enter: Callable[[BlockId], bool],
        *,
        unreadable: Callable[[Reference | None, LibernetError], None] | None = None,
    ) -> None:
        self.path = b""
        self.is_found = False
        self._read = read
        self._enter = enter
        self._unreadable = unreadable

    def of(self, reference: Reference, within: Sequence[bytes] = ()) -> Iterator[BlockId]:
        """Yield the ids of all blocks that the bundle needs, apart from those given to *enter*.

        Or else what is *within* it needs: at the path of these names. Raises FormatError for a
        malformed document, and what *read* raises.
        """
        if not self._enter(reference.id):
            return
        self.path = b""
        for bundle in self._parsed(reference, parse_bundle, _NOBODY):
            if isinstance(bundle, FlatBundle):
                yield from self._of_flat(bundle, within)
            else:
                yield from self._of_listing(bundle, within)

    def _parsed(
        self, reference: Reference, parse: Callable[..., _Parsed], *context: object
    ) -> list[_Parsed]:
        """Return what *parse* finds in a document, nothing when it cannot be read."""
        try:
            return [parse(self._read(reference), *context)]
        except LibernetError as exc:
            self._tell(reference, exc)
            return []

    def _tell(self, reference: Reference | None, error: LibernetError) -> None:
        if self._unreadable is None:
            raise error
        self._unreadable(reference, error)

    def _of_listing(self, top: Listing, within: Sequence[bytes]) -> Iterator[BlockId]:
        # What opens them waits, and not the documents: there may be thousands below one.
        waiting: list[tuple[bytes, Sequence[bytes], Listing | Page | Reference]]
        waiting = [(b"", within, top)]
        while waiting:
            path, rest, what = waiting.pop()
            self.path = path
            for found in self._opened(what):
                listing = _narrowed(found, rest[0]) if rest else found
                self.is_found |= not rest
                if isinstance(listing, Document):
                    yield from (each.id for each in listing.attributes.xattr_urls.values())
                for name, file in listing.files.items() if len(rest) <= 1 else ():
                    self.is_found = True
                    self.path = _below(path, name)
                    yield from self._of_file(file)
                self.path = path
                waiting += ((path, rest, page) for page in listing.pages if self._is_new(page))
                for name, folder in listing.folders.items():
                    below = self.path = _below(path, name)
                    if folder.document is not None:
                        waiting.append((below, rest[1:], folder.document))
                    elif self._is_new(folder):
                        waiting.append((below, rest[1:], folder.reference()))

    def _is_new(self, entry: Page | FolderEntry) -> bool:
        """Say whether an entry has a document that was not walked through."""
        try:
            return self._enter(entry.reference().id)
        except FormatError as exc:
            self._tell(None, exc)
            return False

    def _opened(self, what: Listing | Page | Reference) -> Sequence[Listing]:
        """Return what lists entries, nothing when it cannot be read."""
        if isinstance(what, Page):
            return self._parsed(what.reference(), parse_page, what)
        if isinstance(what, Reference):
            return self._parsed(what, parse_document)
        return [what]

    def _of_flat(self, top: FlatBundle, within: Sequence[bytes]) -> Iterator[BlockId]:
        yield from self._of_listing(top.document, within)
        waiting = [reference for reference in top.bundles if self._enter(reference.id)]
        while waiting:
            self.path = b""
            folder = top.document.attributes
            for bundle in self._parsed(waiting.pop(), parse_sub_bundle, _NOBODY, folder):
                yield from self._of_listing(bundle.document, within)
                waiting.extend(each for each in bundle.bundles if self._enter(each.id))

    def _of_file(self, entry: FileEntry) -> Iterator[BlockId]:
        try:
            parts = [] if entry.spilled else entry.parts()
            lists = entry.part_lists()
            if isinstance(entry, FlatEntry):
                parts += [keys.part() for keys in entry.rsrc or ()]
            xattrs = entry.attributes().xattr_urls.values()
        except FormatError as exc:
            self._tell(None, exc)
            return
        yield from (each.id for each in xattrs)
        yield from (part.reference.id for part in parts if part.reference is not None)
        for each in lists:
            assert each.reference is not None
            if self._enter(each.reference.id):
                parse = partial(parse_contents_list, size=each.size)
                for parsed in self._parsed(each.reference, parse):
                    yield from (part.reference.id for part in parsed if part.reference is not None)


def _narrowed(listing: Listing, name: bytes) -> Listing:
    """Return of a listing only what leads to *name*."""
    file, folder = listing.files.get(name), listing.folders.get(name)
    page = listing.page_of(name)
    return Listing(
        {} if file is None else {name: file},
        {} if folder is None else {name: folder},
        () if page is None else (page,),
    )


def _below(path: bytes, name: bytes) -> bytes:
    return path if len(path) > _MAX_PATH_BYTES else path + b"/" + name

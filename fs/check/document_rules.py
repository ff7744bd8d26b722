"""Documents of folders that did not change since: do they show what the journal has?

Only a journal that agrees with itself is worth comparing: see `broken_rules`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from libernet.blocks.documents import (
    Attributes,
    FileEntry,
    FolderEntry,
    Listing,
    Part,
    parse_document,
    parse_page,
)
from libernet.blocks.errors import BlockError, LibernetError
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import unseal
from libernet.blocks.store import Store
from libernet.fs.check.findings import Finding, Severity
from libernet.fs.check.paths import Paths, Rows
from libernet.fs.inode import Inode
from libernet.fs.journal_reader import EXTENT_COLUMNS, INODE, KNOWN_TOTALS, extent_of
from libernet.fs.tree_documents import parts_of

_TRUE = """
SELECT ino, reference, files, bytes
FROM folder_document JOIN inode USING (ino) WHERE changed <= generation
"""
_AT_ONCE = 500

_Piece = tuple[int, bytes | None]


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What the document of the folder *ino* says, of *where*, and the journal does not."""

    ino: int
    where: str
    sentence: str

    def finding(self) -> Finding:
        """Return it as the check tells it."""
        return Finding("folder-shows", Severity.DAMAGE, self.where, self.sentence)


class DocumentRules:
    """Compare each document that counts as true with the folder that it is of.

    State: _top, the folder whose document is compared; those inlined in it are a part of it.
    """

    def __init__(self, rows: Rows, store: Store, paths: Paths) -> None:
        self._rows = rows
        self._store = store
        self._paths = paths
        self._top = 0

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield what differs. Documents that cannot be read are left to `BundleWalk`."""
        for ino, reference, files, size in self._rows(_TRUE):
            self._top = ino
            if self._rows(KNOWN_TOTALS, ino) != [(files, size)]:
                yield self._differs(ino, "how much there is in it is not what was noted")
            if reference is None:
                continue
            try:
                document = parse_document(self._open(Reference.parse(reference)))
                yield from self._listing(ino, document, b"", None)
            except LibernetError:
                continue

    def _open(self, reference: Reference) -> bytes:
        return unseal(reference, self._store.get(reference.id))

    def _listing(
        self, ino: int, listing: Listing, first: bytes, before: bytes | None
    ) -> Iterator[Contradiction]:
        """Compare what a document or page shows of a folder between two names."""
        for page in listing.pages:
            begin = first if page is listing.pages[0] else page.first
            yield from self._listing(
                ino, parse_page(self._open(page.reference()), page), begin, page.before or before
            )
        if listing.pages:
            return
        shown: dict[bytes, FileEntry | FolderEntry] = {**listing.files, **listing.folders}
        for name, inode in self._children(ino, first, before):
            entry = shown.pop(name, None)
            if entry is None:
                yield self._differs(inode.ino, "its folder's document does not show it")
            elif isinstance(entry, FolderEntry) is not inode.is_folder:
                yield self._differs(inode.ino, "its folder's document shows another kind of thing")
            else:
                yield from self._entry(inode, entry)
        for name in shown:
            where = self._paths.of_name(ino, name)
            yield Contradiction(self._top, where, "a document shows it, and it is not there")

    def _children(
        self, ino: int, first: bytes, before: bytes | None
    ) -> Iterator[tuple[bytes, Inode]]:
        while True:
            page = self._rows(
                f"SELECT name, {INODE} FROM entry JOIN inode USING (ino)"
                " WHERE entry.parent = ? AND name >= ? ORDER BY name LIMIT ?",
                *(ino, first, _AT_ONCE),
            )
            for name, *columns in page:
                if before is not None and name >= before:
                    return
                yield name, Inode(*columns)
            if len(page) < _AT_ONCE:
                return
            first = page[-1][0] + b"\0"

    def _entry(self, inode: Inode, entry: FileEntry | FolderEntry) -> Iterator[Contradiction]:
        if isinstance(entry, FileEntry):
            attributes = entry.attributes()
            if (entry.size, entry.target()) != (inode.size, inode.target):
                yield self._differs(inode.ino, "its folder's document shows another size or target")
            elif self._has_other_contents(inode, entry):
                yield self._differs(inode.ino, "its folder's document shows other contents")
        else:
            attributes = entry.attributes
        if _differ(attributes, inode, self._xattrs(inode)):
            yield self._differs(inode.ino, "its folder's document shows other attributes")
        if isinstance(entry, FolderEntry):
            yield from self._folder(inode.ino, entry)

    def _folder(self, ino: int, entry: FolderEntry) -> Iterator[Contradiction]:
        if entry.document is not None:
            yield from self._listing(ino, entry.document, b"", None)
            return
        noted = self._rows("SELECT reference FROM folder_document WHERE ino = ?", ino)
        if noted != [(str(entry.reference()),)]:
            yield self._differs(ino, "the document above shows another one of it than was noted")

    def _has_other_contents(self, inode: Inode, entry: FileEntry) -> bool:
        """Return whether a file holds other bytes, as far as both can be read.

        Equal ones may be in chunks that were cut elsewhere: a file that was written to while it was
        published, or sealed, is cut anew.
        """
        if not inode.is_file or entry.spilled:
            return False
        extents = [
            extent_of(row)
            for row in self._rows(
                f"SELECT {EXTENT_COLUMNS} FROM extent WHERE ino = ? ORDER BY start", inode.ino
            )
        ]
        if not all(each.is_whole_chunk for each in extents):
            return False  # some of it is in the data log
        shown, parts = entry.parts(), parts_of(extents, inode.size)
        try:
            return shown != parts and not self._are_equal(shown, parts)
        except BlockError:
            return False  # whoever looks for the block tells it

    def _are_equal(self, shown: Iterable[Part], parts: Iterable[Part]) -> bool:
        """Return whether two cuts of a file hold the same bytes; where both have holes, none."""
        ways = self._pieces(shown), self._pieces(parts)
        pieces: list[_Piece] = [(0, None), (0, None)]
        while True:
            pieces = [
                piece if piece[0] else next(way, (0, None))
                for piece, way in zip(pieces, ways, strict=True)
            ]
            count = min(size for size, _ in pieces)
            if not count:
                return pieces == [(0, None), (0, None)]
            first, second = (None if content is None else content[:count] for _, content in pieces)
            zeros = b"" if first is second is None else bytes(count)
            if (zeros if first is None else first) != (zeros if second is None else second):
                return False
            pieces = [(size - count, content and content[count:]) for size, content in pieces]

    def _pieces(self, parts: Iterable[Part]) -> Iterator[_Piece]:
        """Yield how long each part is, and its bytes, None for zeros."""
        for part in parts:
            yield part.size, None if part.reference is None else self._open(part.reference)

    def _xattrs(self, inode: Inode) -> Mapping[bytes, bytes]:
        if not inode.has_xattrs:
            return {}
        return dict(self._rows("SELECT name, value FROM xattr WHERE ino = ?", inode.ino))

    def _differs(self, ino: Any, sentence: str) -> Contradiction:
        return Contradiction(self._top, self._paths.of(ino), sentence)


def _differ(shown: Attributes, inode: Inode, xattrs: Mapping[bytes, bytes]) -> bool:
    is_linked = inode.nlink > 1 and not inode.is_folder
    expected = (inode.mode, inode.uid, inode.gid, inode.mtime_ns, inode.rdev)
    seen = (shown.mode, shown.uid, shown.gid, shown.mtime_ns, shown.rdev)
    return (
        seen != expected
        or shown.link_group != (inode.ino if is_linked else 0)
        or shown.xattr.keys() | shown.xattr_urls.keys() != xattrs.keys()
        or any(xattrs[name] != value for name, value in shown.xattr.items())
    )

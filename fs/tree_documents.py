"""Writing the documents of a backup, from one committed state of the journal.

Only what changed since the last time is looked at: a folder whose `changed` is not newer than what
is known of its document costs one row. What was written before is named again only as long as the
store has it: where it was lost it is written anew. Runs in a thread; everything it reads is
immutable.
"""

import errno
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import itemgetter

import msgspec
from msgspec import Raw

from libernet.blocks.documents import Attributes, Part
from libernet.blocks.errors import BlockError
from libernet.blocks.folder_writer import ChildFolder, FolderDocument, FolderWriter
from libernet.blocks.reference import Reference
from libernet.fs.content import Extent
from libernet.fs.inode import Inode
from libernet.fs.journal_reader import FolderDocumentRow, JournalReader
from libernet.fs.sealing import ChunkMaker, SealedChunk, ranges_to_seal
from libernet.fs.tree import os_error

_KEPT_JSON_BYTES = 64 * 1024  # a longer document is stored at once and let go: no parent inlines it

_AT_ONCE = 500

_MANY_OF = 4  # where one of so many names in a wide folder changed, most of its pages have


class TreeDocuments:
    """Write the documents of one tree.

    State
      rows        what was found out about each folder that was looked at, by inode
      _documents  documents of changed folders whose parents are still to be written
      _changed_in  the changed folders directly in each of them
    """

    def __init__(self, reader: JournalReader, maker: ChunkMaker) -> None:
        self._reader = reader
        self._maker = maker
        self._writer = FolderWriter(maker.store)
        self._documents: dict[int, FolderDocument] = {}
        self._changed_in: dict[int, list[int]] = {}
        self.rows: dict[int, FolderDocumentRow] = {}

    def reference(self, root: int) -> Reference:
        """Return what opens the folder *root*, after storing all that it needs.

        Durable after the store's next flush.
        """
        for ino in reversed(self._changed_folders(root)):
            document = self._document(ino)
            files, size = self._totals(ino)
            self.rows[ino] = FolderDocumentRow(
                ino, document.json_bytes, document.levels, None, files, size, document.pages
            )
            self._documents[ino] = document
            if document.json_bytes > _KEPT_JSON_BYTES:
                self._stored(ino)
                del self._documents[ino]
        return self._stored(root)

    def file_reference(self, folder: int, name: bytes) -> Reference:
        """Return what opens a folder that holds one file of *folder*, and nothing beside it.

        Raises FileNotFoundError when there is no such file in the state looked at.
        """
        parent = self._reader.inode(folder)
        ino = self._reader.child(folder, name)
        inode = self._reader.inode(ino) if ino is not None else None
        if parent is None or inode is None or inode.is_folder:
            raise os_error(errno.ENOENT)
        # Neither owner, mode nor time of the folder it stands in are anybody else's business.
        attributes = Attributes(stat.S_IFDIR | 0o755, inode.uid, inode.gid, inode.mtime_ns)
        alone = msgspec.structs.replace(inode, nlink=1)  # nor are its other names
        document = self._writer.folder(attributes, [(name, self._entry(alone))], [])
        return self._writer.store(document)

    def _changed_folders(self, root: int) -> list[int]:
        """Return the folders whose documents are not known any more, parents before children."""
        known = self._known(root)
        if known is not None:
            self.rows[root] = known
            return []
        changed, waiting = [], [root]
        while waiting:
            ino = waiting.pop()
            changed.append(ino)
            below = self._changed_in[ino] = self._reader.unpublished_folders(ino)
            waiting.extend(below)
        return changed

    def _known(self, ino: int) -> FolderDocumentRow | None:
        """Return what is known of a folder's document, without a reference if that was lost."""
        row = self._reader.folder_document(ino)
        if row is None or row.reference is None or self._maker.has(row.reference):
            return row
        return replace(row, reference=None)

    def _totals(self, ino: int) -> tuple[int, int]:
        """Return how many files there are at and below a folder, and their bytes."""
        files, size = self._reader.known_totals(ino)
        below = [self.rows[each] for each in self._changed_in[ino]]
        return files + sum(row.files for row in below), size + sum(row.bytes for row in below)

    def _document(self, ino: int) -> FolderDocument:
        """Return the document of one folder; those of its changed children exist by now."""
        kept = self._documents.get(ino)
        if kept is not None:
            return kept
        folder = self._reader.inode(ino)
        assert folder is not None, "a folder in one committed state does not vanish from it"
        return self._renewed(folder) or self._written(folder)

    def _renewed(self, folder: Inode) -> FolderDocument | None:
        """Write what changed of a wide folder's document; None if it must be written anew."""
        former = self._reader.folder_pages(folder.ino)
        if not all(self._maker.has(Reference.parse(page.url)) for page in former):
            return None
        few = sum(page.names for page in former) // _MANY_OF
        changed = self._reader.changed_names(folder.ino, few + 1)
        if not former or len(changed) > few:
            return None
        below: list[int] = []

        def entries(first: bytes) -> Iterator[tuple[bytes, Raw] | ChildFolder]:
            for name, inode in self._children(folder.ino, first):
                if inode.is_folder:
                    below.append(inode.ino)
                    yield self._child(name, inode)
                else:
                    yield name, self._entry(inode)

        attributes = self._attributes(folder)
        document = self._writer.renewed(attributes, former, changed, entries)
        if document is not None:
            for ino in below:
                self._documents.pop(ino, None)
        return document

    def _written(self, folder: Inode) -> FolderDocument:
        ino = folder.ino
        below = self._folders_in(ino)
        folders = [self._child(name, inode) for name, inode in below]
        # One by one: a folder with a million of them is not in memory as a whole.
        files = (
            (name, self._entry(inode)) for name, inode in self._children(ino) if not inode.is_folder
        )
        document = self._writer.folder(self._attributes(folder), files, folders)
        for _, child in below:
            self._documents.pop(child.ino, None)
        return document

    def _folders_in(self, ino: int) -> list[tuple[bytes, Inode]]:
        """Return the folders directly in a folder, by name."""
        found = []
        for child in self._reader.child_folders(ino):
            inode = self._reader.inode(child)
            assert inode is not None, "it was listed in the same committed state"
            found += [(name, inode) for parent, name in self._reader.names(child) if parent == ino]
        return sorted(found, key=itemgetter(0))

    def _children(self, ino: int, first: bytes = b"") -> Iterator[tuple[bytes, Inode]]:
        """Yield what is in a folder from the name *first* on, by name."""
        page = self._reader.children_from(ino, first, _AT_ONCE)
        while page:
            yield from page
            page = self._reader.children(ino, page[-1][0], _AT_ONCE)

    def _child(self, name: bytes, inode: Inode) -> ChildFolder:
        row = self.rows.get(inode.ino) or self._known(inode.ino)
        assert row is not None, "children are looked at before their parents"
        self.rows[inode.ino] = row
        return ChildFolder(
            name=name,
            attributes=self._attributes(inode),
            json_bytes=row.json_bytes,
            levels=row.levels,
            document=lambda: self._document(inode.ino).json,
            reference=lambda: self._stored(inode.ino),
        )

    def _stored(self, ino: int) -> Reference:
        """Return the reference of a folder's document, after storing it if it never was."""
        row = self.rows[ino]
        if row.reference is not None:
            return row.reference
        reference = self._writer.store(self._document(ino))
        self.rows[ino] = replace(row, reference=reference)
        return reference

    def _entry(self, inode: Inode) -> Raw:
        attributes = self._attributes(inode)
        if stat.S_ISLNK(inode.mode):
            return self._writer.link(attributes, inode.target)
        if not inode.is_file:
            return self._writer.special(attributes)
        return self._writer.file(attributes, inode.size, self._parts(inode))

    def _parts(self, inode: Inode) -> list[Part]:
        """Return the parts of a file; what is not sealed yet is sealed on the way."""
        extents = self._reader.extents(inode.ino)
        return parts_of(self._sealed(extents, inode.size), inode.size)

    def _sealed(self, extents: list[Extent], size: int) -> list[Extent]:
        """Return extents that are whole chunks, sealing what is not one."""
        result = list(extents)
        for start, end in ranges_to_seal(extents, size):
            try:
                sealed = _placed(start, self._seal(extents, start, end, size))
            except BlockError:
                sealed = self._sealed_apart(extents, start, end)
            result = [each for each in result if each.end <= start or each.offset >= end]
            result.extend(sealed)
        return sorted(result, key=lambda extent: extent.offset)

    def _sealed_apart(self, extents: list[Extent], start: int, end: int) -> list[Extent]:
        """Return extents for a range of which a part is lost, so that the others are published.

        A whole chunk stays as it is, here or not; BlockError when a part of one is lost.
        """
        result: list[Extent] = []
        for extent in extents:
            if extent.offset >= end or extent.end <= start:
                continue
            within = extent.clipped(start, end)
            if within.is_whole_chunk:
                result.append(within)
            else:
                chunks = self._maker.store_range(extents, within.offset, within.end)
                result += _placed(within.offset, chunks)
        return result

    def _seal(
        self, extents: list[Extent], start: int, end: int, size: int
    ) -> Iterable[SealedChunk]:
        if (start, end) == (0, size):
            return self._maker.store_whole(extents, size)
        return self._maker.store_range(extents, start, end)

    def _attributes(self, inode: Inode) -> Attributes:
        is_linked = inode.nlink > 1 and not inode.is_folder
        return Attributes(
            inode.mode,
            inode.uid,
            inode.gid,
            inode.mtime_ns,
            link_group=inode.ino if is_linked else 0,
            rdev=inode.rdev,
            xattr=self._reader.xattrs(inode.ino) if inode.has_xattrs else {},
        )


def parts_of(extents: Iterable[Extent], size: int) -> list[Part]:
    """Return the parts of a file of *size* bytes that consists of whole chunks, and of holes."""
    parts: list[Part] = []
    offset = 0
    for extent in extents:
        if extent.offset > offset:
            parts.append(Part(extent.offset - offset, None))
        assert extent.piece.chunk is not None
        parts.append(Part(extent.length, extent.piece.chunk))
        offset = extent.end
    if size > offset:
        parts.append(Part(size - offset, None))
    return parts


def _placed(start: int, chunks: Iterable[SealedChunk]) -> list[Extent]:
    """Return the extents that show *chunks* one behind the other, from *start* on."""
    placed: list[Extent] = []
    for chunk in chunks:
        placed.append(chunk.extent(placed[-1].end if placed else start))
    return placed

"""Writing documents: what is inlined, where a wide folder is cut, when a list of parts spills.

Equal folders give equal bytes, so that what did not change is neither sealed nor stored again. The
rules and why they are as they are: README.md.
"""

import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Final

from msgspec import Raw

from libernet.blocks.documents import MAX_LEVELS
from libernet.blocks.entries import (
    ENCODER,
    VERSION,
    Attributes,
    FileEntry,
    FolderKeys,
    Part,
    PartKeys,
    PartListKeys,
    PartsKeys,
    UnixKeys,
    link_keys,
    modified_seconds,
)
from libernet.blocks.errors import BlockTooLarge
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.list_cuts import NEVER, CutRule, runs
from libernet.blocks.names import key_of
from libernet.blocks.page_writer import Named, PageWriter, StoredPage, listing_json
from libernet.blocks.reference import Reference

INLINE_BYTES: Final = 64 * 1024
"""Children are inlined while the document of a folder stays under this."""

ALWAYS_INLINED_BYTES: Final = 2 * 1024
"""Children with a document of at most this are inlined whatever the size of the folder's."""

XATTR_SPILL_BYTES: Final = 4 * 1024
"""Largest value of an extended attribute that stands in its entry."""

SPILL_BYTES: Final = 64 * 1024
"""Largest `contents` that stands in the entry of its file."""

MAX_ENTRY_BYTES: Final = 768 * 1024
"""Largest entry: a page holds it alone. Its lists of parts then cover about 2 TiB."""

# What an entry without xattr adds to its document if it is referenced: 147 are the url's.
_REFERENCED_BYTES = 320

# Lists of 1,024 parts on average; 4,096 with sizes of 19 digits have 780 KiB.
_PARTS_RULE = CutRule(shortest=256, one_in=768, heaviest=4096)

_MANY_NAMES = 1000
"""So many entries, of at least 70 bytes each, leave no room for children that are not always
inlined: so what one entry is does not depend on the others."""

_FEW_PARTS = 300  # they have at most 194 bytes each: never over SPILL_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildFolder:
    """Describe a folder inside another: what decides about inlining it, and how to get the rest.

    *json_bytes* and *levels* are those of its own `FolderDocument`. *document* returns the JSON of
    that and is called only if it is inlined, *reference* what `store` gave for it and is called
    only if it is not.
    """

    name: bytes
    attributes: Attributes
    json_bytes: int
    levels: int
    document: Callable[[], bytes]
    reference: Callable[[], Reference]


@dataclass(frozen=True, slots=True)
class FolderDocument:
    """Hold the JSON of a folder's document.

    *levels* counts the levels of folders in it: 1 if none is inlined. *json_bytes* is the length of
    the JSON; over MAX_CHUNK_BYTES that of what was stored in the *pages* that the JSON refers to.
    """

    json: bytes
    levels: int
    attributes: Attributes
    json_bytes: int
    pages: tuple[StoredPage, ...] = ()


class FolderWriter:
    """Turn files and folders into documents.

    State: only *put*, which seals and stores one plaintext of at most MAX_CHUNK_BYTES. `file` calls
    it for lists of parts that spill, `folder` for the pages of a wide folder, `store` for
    documents, all for large values of extended attributes.
    """

    def __init__(self, put: Callable[[bytes], Reference]) -> None:
        self._put = put
        self._pages = PageWriter(put)

    def file(self, attributes: Attributes, size: int, parts: Sequence[Part]) -> Raw:
        """Return the entry of a regular file, after storing its lists of parts where they spill.

        Raises BlockTooLarge for a file that no document can hold (about 2 TiB).
        """
        if sum([part.size for part in parts]) != size or not stat.S_ISREG(attributes.mode):
            raise ValueError(f"the parts do not make up a regular file of {size} bytes")
        contents = [PartKeys.of(part) for part in parts]
        spills = len(parts) > _FEW_PARTS and len(ENCODER.encode(contents)) > SPILL_BYTES
        return _entry(
            FileEntry(
                contents=None if spills else contents,
                contents_lists=self._spill(parts, contents) if spills else None,
                executable=bool(attributes.mode & stat.S_IXUSR),
                modified=modified_seconds(attributes.mtime_ns),
                readonly=not attributes.mode & stat.S_IWUSR,
                size=size,
                unix=self._unix(attributes),
            )
        )

    def link(self, attributes: Attributes, target: bytes) -> Raw:
        """Return the entry of a symbolic link to *target*."""
        link, unix_link = link_keys(target)
        return _entry(
            FileEntry(
                link=link,
                modified=modified_seconds(attributes.mtime_ns),
                size=len(target),
                unix=self._unix(attributes, unix_link),
            )
        )

    def special(self, attributes: Attributes) -> Raw:
        """Return the entry of a fifo, socket or device, which its mode and rdev describe."""
        return _entry(
            FileEntry(
                modified=modified_seconds(attributes.mtime_ns),
                size=0,
                unix=self._unix(attributes),
            )
        )

    def folder(
        self,
        attributes: Attributes,
        files: Iterable[tuple[bytes, Raw]],
        folders: Sequence[ChildFolder],
    ) -> FolderDocument:
        """Return the document of a folder with *files*, as entries by name, and *folders*.

        *files* ascend by name. Where all that is too much for one document it is stored in pages,
        and no more of *files* is in memory at one time than one page holds.
        Raises FormatError for a name that no file can have, ValueError where one occurs twice.
        """
        coming = (Named(name, key_of(name), entry) for name, entry in files)
        first = list(_up_to(MAX_CHUNK_BYTES, coming))
        attributes = self._with_large_stored(attributes)
        head = _head(attributes)
        own_bytes = len(listing_json(head, first))
        inlined = _choose_inlined(own_bytes, folders)
        levels = 1 + max((child.levels for child in folders if child.name in inlined), default=0)
        by_name = sorted(folders, key=attrgetter("name"))
        children = [self._named(child, inline=child.name in inlined) for child in by_name]
        entries = _ascending(merge(chain(first, coming), children, key=attrgetter("name")))
        if own_bytes <= MAX_CHUNK_BYTES:  # then these are all files
            listed = list(entries)
            json = listing_json(head, listed)
            if len(json) <= MAX_CHUNK_BYTES:
                return FolderDocument(json, levels, attributes, len(json))
            entries = iter(listed)
        return self._wide(attributes, self._pages.written(entries))

    def renewed(
        self,
        attributes: Attributes,
        former: Sequence[StoredPage],
        changed: Collection[bytes],
        entries: Callable[[bytes], Iterable[tuple[bytes, Raw] | ChildFolder]],
    ) -> FolderDocument | None:
        """Return what folder() would, of a wide one whose pages were *former*; None if unsure.

        Only names in *changed* came, went or have another entry since then. *entries* yields files
        and folders as they are now, from a name on, ascending: those of the pages that change.
        """
        if sum(page.names for page in former) < _MANY_NAMES:
            return None
        attributes = self._with_large_stored(attributes)
        pages = self._pages.renewed(
            former, changed, lambda first: _ascending(map(self._alone, entries(first)))
        )
        if sum(page.names for page in pages) < _MANY_NAMES:
            return None
        if sum(page.weight for page in pages) <= MAX_CHUNK_BYTES:
            return None  # it may fit into one document now
        return self._wide(attributes, pages)

    def store(self, document: FolderDocument) -> Reference:
        """Store *document* and return what opens the folder."""
        return self._put(document.json)

    def _wide(self, attributes: Attributes, pages: Sequence[StoredPage]) -> FolderDocument:
        """Return a document that refers to *pages*."""
        weight = sum(page.weight for page in pages)
        return FolderDocument(
            self._pages.index(_head(attributes), pages),
            levels=1,
            attributes=attributes,
            json_bytes=max(weight, MAX_CHUNK_BYTES + 1),
            pages=tuple(pages),
        )

    def _alone(self, entry: tuple[bytes, Raw] | ChildFolder) -> Named:
        """Return an entry of a folder in which the others leave no room for inlining."""
        if isinstance(entry, ChildFolder):
            return self._named(entry, inline=_is_always_inlined(entry))
        name, file = entry
        return Named(name, key_of(name), file)

    def _named(self, child: ChildFolder, *, inline: bool) -> Named:
        entry = self._folder_entry(child, inline=inline)
        return Named(child.name, key_of(child.name), entry, is_folder=True)

    def _folder_entry(self, child: ChildFolder, *, inline: bool) -> Raw:
        if inline:
            return Raw(b'{"document":%b}' % child.document())
        return _entry(
            FolderKeys(
                modified=modified_seconds(child.attributes.mtime_ns),
                unix=self._unix(child.attributes),
                url=str(child.reference()),
            )
        )

    def _unix(self, attributes: Attributes, link: str | None = None) -> UnixKeys:
        return UnixKeys.of(self._with_large_stored(attributes), link)

    def _with_large_stored(self, attributes: Attributes) -> Attributes:
        """Store large values of extended attributes in blocks of their own."""
        large = {n: v for n, v in attributes.xattr.items() if len(v) > XATTR_SPILL_BYTES}
        if not large:
            return attributes
        return replace(
            attributes,
            xattr={name: value for name, value in attributes.xattr.items() if name not in large},
            xattr_urls={
                **attributes.xattr_urls,
                **{name: self._put(value) for name, value in large.items()},
            },
        )

    def _spill(self, parts: Sequence[Part], contents: Sequence[PartKeys]) -> list[PartListKeys]:
        marks = [_mark(part.reference.id) if part.reference else NEVER for part in parts]
        marked = zip(marks, contents, strict=True)
        return [
            self._put_parts([keys for _, keys in run])
            for run in runs(marked, itemgetter(0), lambda _: 1, _PARTS_RULE)
        ]

    def _put_parts(self, contents: Sequence[PartKeys]) -> PartListKeys:
        document = PartsKeys(contents=list(contents), version=VERSION)
        reference = self._put(ENCODER.encode(document))
        return PartListKeys(size=sum([keys.size for keys in contents]), url=str(reference))


def _ascending(entries: Iterable[Named]) -> Iterator[Named]:
    """Yield *entries*; ValueError where a name is not behind the one before."""
    last: bytes | None = None
    for entry in entries:
        if last is not None and entry.name <= last:
            told = "occurs twice" if entry.name == last else f"comes behind {last!r}"
            raise ValueError(f"the name {entry.name!r} {told} in a folder")
        last = entry.name
        yield entry


def _up_to(limit: int, entries: Iterator[Named]) -> Iterator[Named]:
    """Yield *entries* up to the first with which they weigh more than *limit*."""
    weight = 0
    for entry in entries:
        yield entry
        weight += entry.weight
        if weight > limit:
            return


def _choose_inlined(own_bytes: int, folders: Sequence[ChildFolder]) -> set[bytes]:
    """Return the names of the children to inline into a document of *own_bytes* without them."""
    inlined = set()
    room = INLINE_BYTES - own_bytes
    room -= sum([len(child.name) + _REFERENCED_BYTES for child in folders])
    for child in sorted(folders, key=lambda child: (child.json_bytes, child.name)):
        growth = child.json_bytes - _REFERENCED_BYTES
        fits = growth < room and child.levels < MAX_LEVELS
        if fits or _is_always_inlined(child):
            inlined.add(child.name)
            room -= growth
    return inlined


def _is_always_inlined(child: ChildFolder) -> bool:
    return child.json_bytes <= ALWAYS_INLINED_BYTES and child.levels < MAX_LEVELS


def _entry(keys: FileEntry | FolderKeys) -> Raw:
    return Raw(_not_too_large(ENCODER.encode(keys)))


def _not_too_large(json: bytes) -> bytes:
    if len(json) > MAX_ENTRY_BYTES:
        raise BlockTooLarge(
            f"an entry of {len(json)} bytes is over {MAX_ENTRY_BYTES}: the file has too many parts"
            " or extended attributes to be listed"
        )
    return json


def _head(attributes: Attributes) -> dict[str, object]:
    """Return the keys in which a folder's document differs from a page."""
    head = {
        "modified": modified_seconds(attributes.mtime_ns),
        "unix": UnixKeys.of(attributes),
        "version": VERSION,
    }
    _not_too_large(ENCODER.encode(head))
    return head


def _mark(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big")

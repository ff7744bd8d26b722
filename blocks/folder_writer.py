"""Writing documents: what is inlined, where a wide folder is cut, when a list of parts spills.

Equal folders give equal bytes, so that what did not change is neither sealed nor stored again. The
rules and why they are as they are: README.md.
"""

import hashlib
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from msgspec import Raw

from libernet.blocks.documents import MAX_LEVELS
from libernet.blocks.entries import (
    ENCODER,
    VERSION,
    Attributes,
    FileEntry,
    FolderKeys,
    PageKeys,
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
from libernet.blocks.names import key_of, name_of
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

# Entries have about 330 bytes: pages of 84 to 512 KiB, 250 KiB on average.
_PAGE_RULE = CutRule(shortest=256, one_in=512, heaviest=512 * 1024)
# Lists of 1,024 parts on average; 4,096 with sizes of 19 digits have 780 KiB.
_PARTS_RULE = CutRule(shortest=256, one_in=768, heaviest=4096)

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

    *levels* counts the levels of folders in it: 1 if none is inlined. *files* and *folders*,
    entries by key, are kept only where the JSON is over MAX_CHUNK_BYTES and goes into pages.
    """

    json: bytes
    levels: int
    attributes: Attributes
    files: dict[str, Raw] = field(default_factory=dict)
    folders: dict[str, Raw] = field(default_factory=dict)

    @property
    def json_bytes(self) -> int:
        """Return the length of the JSON; over MAX_CHUNK_BYTES it is stored in pages."""
        return len(self.json)


class FolderWriter:
    """Turn files and folders into documents.

    State: only *put*, which seals and stores one plaintext of at most MAX_CHUNK_BYTES. `file` calls
    it for lists of parts that spill, `store` for documents and pages, all for large values of
    extended attributes.
    """

    def __init__(self, put: Callable[[bytes], Reference]) -> None:
        self._put = put

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

        Raises FormatError for a name that no file can have, ValueError where one occurs twice.
        """
        named = list(files)
        file_entries = {key_of(name): entry for name, entry in named}
        attributes = self._with_large_stored(attributes)
        head = _head(attributes)
        inlined = _choose_inlined(len(_listing_json(head, file_entries, {})), folders)
        folder_entries = {
            key_of(child.name): self._folder_entry(child, inline=child.name in inlined)
            for child in folders
        }
        if len(file_entries | folder_entries) < len(named) + len(folders):
            raise ValueError("a name occurs twice in a folder")
        json = _listing_json(head, file_entries, folder_entries)
        levels = 1 + max((child.levels for child in folders if child.name in inlined), default=0)
        if len(json) <= MAX_CHUNK_BYTES:
            return FolderDocument(json, levels, attributes)
        return FolderDocument(json, levels, attributes, file_entries, folder_entries)

    def store(self, document: FolderDocument) -> Reference:
        """Store *document*, in pages where it is too large, and return what opens the folder."""
        json = document.json
        if len(json) > MAX_CHUNK_BYTES:
            head = _head(document.attributes)
            pages = self._put_pages(document)
            level = 1
            while len(json := _pages_json(head, pages)) > MAX_CHUNK_BYTES:
                pages = self._put_page_lists(pages, level)
                level += 1
        return self._put(json)

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
        weights = [1] * len(parts)
        return [self._put_parts(contents[run]) for run in runs(marks, weights, _PARTS_RULE)]

    def _put_parts(self, contents: Sequence[PartKeys]) -> PartListKeys:
        document = PartsKeys(contents=list(contents), version=VERSION)
        reference = self._put(ENCODER.encode(document))
        return PartListKeys(size=sum([keys.size for keys in contents]), url=str(reference))

    def _put_pages(self, document: FolderDocument) -> list[PageKeys]:
        """Store the entries of *document* in pages."""
        entries = document.files | document.folders
        keys = sorted(entries, key=name_of)
        marks = [_name_mark(key, 0) for key in keys]
        weights = [len(key) + len(entries[key]) for key in keys]
        return [
            self._put_page(keys[run], document.files, document.folders)
            for run in runs(marks, weights, _PAGE_RULE)
        ]

    def _put_page(
        self, keys: Sequence[str], files: Mapping[str, Raw], folders: Mapping[str, Raw]
    ) -> PageKeys:
        page = _listing_json(
            {"version": VERSION},
            {key: files[key] for key in keys if key in files},
            {key: folders[key] for key in keys if key in folders},
        )
        return PageKeys(first=keys[0], url=str(self._put(page)))

    def _put_page_lists(self, pages: Sequence[PageKeys], level: int) -> list[PageKeys]:
        """Store *pages* in pages of their own, as there are too many for one block."""
        marks = [_name_mark(page.first, level) for page in pages]
        weights = [len(page.first) + len(page.url) for page in pages]
        return [
            PageKeys(
                first=pages[run][0].first,
                url=str(self._put(_pages_json({"version": VERSION}, pages[run]))),
            )
            for run in runs(marks, weights, _PAGE_RULE)
        ]


def _choose_inlined(own_bytes: int, folders: Sequence[ChildFolder]) -> set[bytes]:
    """Return the names of the children to inline into a document of *own_bytes* without them."""
    inlined = set()
    room = INLINE_BYTES - own_bytes
    room -= sum([len(child.name) + _REFERENCED_BYTES for child in folders])
    for child in sorted(folders, key=lambda child: (child.json_bytes, child.name)):
        growth = child.json_bytes - _REFERENCED_BYTES
        fits = growth < room or child.json_bytes <= ALWAYS_INLINED_BYTES
        if fits and child.levels < MAX_LEVELS:
            inlined.add(child.name)
            room -= growth
    return inlined


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


def _listing_json(
    head: Mapping[str, object], files: Mapping[str, Raw], folders: Mapping[str, Raw]
) -> bytes:
    listing = dict(head)
    if files:
        listing["files"] = files
    if folders:
        listing["directories"] = folders
    return ENCODER.encode(listing)


def _pages_json(head: Mapping[str, object], pages: Sequence[PageKeys]) -> bytes:
    return ENCODER.encode({**head, "pages": pages})


def _name_mark(key: str, level: int) -> int:
    """Return the mark of the name with *key* for cuts on *level*: each takes other bytes."""
    return _mark(hashlib.sha256(name_of(key)).digest()[8 * level :])


def _mark(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big")

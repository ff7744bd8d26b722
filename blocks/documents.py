"""Documents, which list folders, as readers see them: parsed and checked (format: README.md).

A reader opens a folder with `parse_document` and, where that has `pages`, the page that it needs
with `parse_page`; the parts of a large file with `parse_contents_list`.
"""

import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeVar

import msgspec

from libernet.blocks.entries import (
    ENCODER,
    VERSION,
    Attributes,
    DocumentKeys,
    FileEntry,
    FolderKeys,
    Part,
    PartsKeys,
    block_reference,
)
from libernet.blocks.entry_checks import check_file, check_sum, folder_attributes
from libernet.blocks.errors import FormatError, UnknownVersion
from libernet.blocks.json_objects import single_valued
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.names import key_of, name_of
from libernet.blocks.reference import Reference

__all__ = [
    "Attributes",
    "Document",
    "FileEntry",
    "FolderEntry",
    "Listing",
    "Page",
    "Part",
    "key_of",
    "name_of",
    "parse_contents_list",
    "parse_document",
    "parse_page",
]

MAX_LEVELS: Final = 64
"""Most levels of folders in one document. Python's recursion limit lets msgspec read about 330."""

MAX_PAGE_LEVELS: Final = 4
"""Most levels of pages below a folder's document: 256 pages or more in each hold any folder."""

_DOCUMENT = msgspec.json.Decoder(DocumentKeys)
_PARTS = msgspec.json.Decoder(PartsKeys)

_Keys = TypeVar("_Keys", DocumentKeys, PartsKeys)


@dataclass(frozen=True, slots=True)
class Page:
    """Say where the entries are whose names are at least *first* and below *before* (None: no end).

    *level* is 1 for a page that the folder's document lists, 2 for one listed there, and so on.
    """

    first: bytes
    before: bytes | None
    level: int
    url: str

    def reference(self) -> Reference:
        """Return the reference of the page, for `parse_page`, or raise FormatError."""
        return block_reference(self.url)


@dataclass(frozen=True, slots=True)
class Listing:
    """Hold entries by name, or the pages, by ascending names, in which they are. Not both."""

    files: Mapping[bytes, FileEntry]
    folders: Mapping[bytes, "FolderEntry"]
    pages: tuple[Page, ...]

    def find(self, name: bytes) -> "FileEntry | FolderEntry | None":
        """Return the entry *name*, None if there is none here (it may be in `page_of(name)`)."""
        return self.files.get(name) or self.folders.get(name)

    def page_of(self, name: bytes) -> Page | None:
        """Return the page that has the entry *name* if any has."""
        place = bisect_right(self.pages, name, key=_first_of)
        return self.pages[place - 1] if place else None


@dataclass(frozen=True, slots=True)
class Document(Listing):
    """List a folder whose own attributes are *attributes*."""

    attributes: Attributes


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """Stand for a child folder: its *document* is inlined, or is in the block of `reference()`."""

    attributes: Attributes
    document: Document | None
    url: str | None

    def reference(self) -> Reference:
        """Return the reference of the document that is not inlined, or raise FormatError."""
        if self.url is None:
            raise ValueError("the document of this folder is inlined and has no reference")
        return block_reference(self.url)


def parse_document(plaintext: bytes) -> Document:
    """Return the document of a folder, or raise FormatError, UnknownVersion for a newer format."""
    return _document(_decode(_DOCUMENT, plaintext), MAX_LEVELS)


def parse_page(plaintext: bytes, page: Page) -> Listing:
    """Return what *page* lists, or raise FormatError, also where it does not keep to its names."""
    listing = _listing(_decode(_DOCUMENT, plaintext), MAX_LEVELS, page)
    names = [each.first for each in listing.pages] or [*listing.files, *listing.folders]
    if not names or min(names) != page.first:
        raise FormatError(f"a page does not start with the name {page.first!r}, as its index says")
    if page.before is not None and max(names) >= page.before:
        raise FormatError(f"the page of {page.first!r} has names from {page.before!r} on")
    return listing


def parse_contents_list(plaintext: bytes, *, size: int) -> list[Part]:
    """Return the parts in a list of its own, which make up *size* bytes, or raise FormatError."""
    contents = _decode(_PARTS, plaintext).contents
    check_sum(contents, size, "a list of parts")
    return [keys.part() for keys in contents]


def _decode(decoder: msgspec.json.Decoder[_Keys], plaintext: bytes) -> _Keys:
    if len(plaintext) > MAX_CHUNK_BYTES:
        raise FormatError(f"a document of {len(plaintext)} bytes is over {MAX_CHUNK_BYTES}")
    try:
        keys = decoder.decode(plaintext)
    except msgspec.ValidationError as exc:
        _refuse_newer(plaintext)
        raise FormatError(f"malformed document: {exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise FormatError(f"a document is not JSON: {exc}") from exc
    except RecursionError:
        raise FormatError("a document is nested too deep") from None
    _check_version(keys.version)
    _refuse_doubles(keys, plaintext)
    return keys


def _refuse_doubles(keys: DocumentKeys | PartsKeys, plaintext: bytes) -> None:
    """Raise FormatError where an object has two values for one key: msgspec reads the last one.

    What we write is the same when it is written again, which takes a tenth of parsing it, and has
    none. All else is parsed once more, which takes as long as that.
    """
    try:
        if ENCODER.encode(keys) != plaintext:
            json.loads(plaintext, object_pairs_hook=single_valued)
    except ValueError as exc:  # a number of thousands of digits under a key that nobody knows
        raise FormatError(f"a document is not JSON: {exc}") from exc
    except RecursionError:
        raise FormatError("a document is nested too deep") from None


class _VersionKey(msgspec.Struct):
    version: int


def _refuse_newer(plaintext: bytes) -> None:
    """Raise UnknownVersion where what seems malformed is of a newer version."""
    try:
        keys = msgspec.json.decode(plaintext, type=_VersionKey)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    _check_version(keys.version)


def _check_version(version: int) -> None:
    if version > VERSION:
        raise UnknownVersion(
            f"a document has version {version}, this program knows {VERSION}: update it"
        )
    if version < 1:
        raise FormatError(f"a document has the impossible version {version}")


def _document(keys: DocumentKeys, levels: int) -> Document:
    """Return the document with *keys*, in which folders may stand on *levels* levels."""
    if keys.unix is None:
        raise FormatError("the document of a folder has no attributes")
    attributes = folder_attributes(keys.unix)
    listing = _listing(keys, levels, None)
    return Document(listing.files, listing.folders, listing.pages, attributes)


def _listing(keys: DocumentKeys, levels: int, page: Page | None) -> Listing:
    """Return what the document with *keys* lists, which is that of *page* or of a folder."""
    _check_version(keys.version)
    if keys.pages:
        if keys.files or keys.directories:
            raise FormatError("a document has entries beside pages")
        return Listing({}, {}, _pages(keys, page))
    files = {name_of(key): entry for key, entry in keys.files.items()}
    for name, entry in files.items():
        check_file(name, entry)
    folders = {name_of(key): _folder(entry, levels - 1) for key, entry in keys.directories.items()}
    if folders and not files.keys().isdisjoint(folders):
        raise FormatError("a document has a file and a folder of one name")
    return Listing(files, folders, ())


def _folder(keys: FolderKeys, levels: int) -> FolderEntry:
    if (keys.document is None) == (keys.url is None):
        raise FormatError("a folder must have either a document or the url of one")
    if keys.document is None:
        if keys.unix is None:
            raise FormatError("a folder with an url has no attributes")
        return FolderEntry(folder_attributes(keys.unix), None, keys.url)
    if levels < 1:
        raise FormatError(f"a document has folders on more than {MAX_LEVELS} levels")
    if keys.document.pages:
        raise FormatError("a document with pages is inlined")
    document = _document(keys.document, levels)
    return FolderEntry(document.attributes, document, None)


def _pages(keys: DocumentKeys, page: Page | None) -> tuple[Page, ...]:
    level = page.level + 1 if page else 1
    if level > MAX_PAGE_LEVELS:
        raise FormatError(f"pages are nested on more than {MAX_PAGE_LEVELS} levels")
    firsts = [name_of(each.first) for each in keys.pages]
    if any(first >= following for first, following in pairwise(firsts)):
        raise FormatError("the pages of a document are not in the order of their names")
    ends = [*firsts[1:], page.before if page else None]
    return tuple(
        Page(first, before, level, each.url)
        for first, before, each in zip(firsts, ends, keys.pages, strict=True)
    )


def _first_of(page: Page) -> bytes:
    return page.first

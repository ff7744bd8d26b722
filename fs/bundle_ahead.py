"""Bringing files and folders here ahead of whoever goes through a bundle one after the other."""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from libernet.blocks.documents import FileEntry, FolderEntry, Listing
from libernet.blocks.entries import Part
from libernet.blocks.errors import FormatError
from libernet.blocks.reference import Reference

SMALL_FILE_BYTES = 1024 * 1024
"""A larger file is read ahead by itself, once somebody reads it."""

BATCH_BYTES = 1000 * 1024
"""What is brought in one request: with what sealing adds it is one answer, one round trip."""

_FIRST_WINDOW = 16
"""Files or folders brought for a reader who may want only one: the rest must not make it wait."""

_WINDOW_GROWTH = 4
_LARGEST_WINDOW = 512
_WINDOW_BYTES = 4 * 1024 * 1024
_DOCUMENT_BYTES = 64 * 1024  # a guess; and on average no file in a window may be larger

E = TypeVar("E", FileEntry, FolderEntry)


class _Ahead(Generic[E]):
    """Entries of one document, those of inlined folders too, in the order in which a walk comes by.

    State
      _entries   the entries
      _places    where each is in that order, by the entry's identity: the document keeps them
      _latest    the place that a reader came to last
      _asked     the places handed out since a reader last began far away
      _end       up to where they were handed out last
      _due       the place at which a reader makes the next ones due: half-way through the last
      _window    how many are handed out next, more each time that the reader goes on
    """

    def __init__(self, entries: Iterator[E]) -> None:
        self._entries: list[E] = list(entries)
        self._places = {id(entry): place for place, entry in enumerate(self._entries)}
        self._latest = 0
        self._asked: set[int] = set()
        self._end = 0
        self._due = 0
        self._window = _FIRST_WINDOW

    def from_here(self, entry: E) -> list[list[Reference]]:
        """Return what the next entries need, from *entry* on or from where it went on, in batches.

        Empty until the reader has come half-way through what was returned last. Who begins
        elsewhere, or far back once more, gets a few first: what is already here is not fetched.
        What *entry* itself needs is a batch of its own, so that it does not wait for the others.
        """
        place = self._places.get(id(entry))
        if place is None:
            return []
        if abs(place - self._latest) >= _LARGEST_WINDOW:
            self._asked.clear()
        if place not in self._asked:
            self._end = self._due = place
            self._window = _FIRST_WINDOW
        self._latest = place
        return self._next_window(place) if place >= self._due else []

    def _next_window(self, place: int) -> list[list[Reference]]:
        """Return the next window's batches, the first for the entry at *place* if it is new."""
        own: list[Part] = []
        others: list[Part] = []
        size = 0
        start = self._end = max(self._end, place)
        most = min(self._window * _DOCUMENT_BYTES, _WINDOW_BYTES)
        while self._end < min(start + self._window, len(self._entries)) and size <= most:
            if self._end not in self._asked:
                self._asked.add(self._end)
                needed = self._needed(self._entries[self._end])
                size += sum(part.size for part in needed)
                (own if self._end == place else others).extend(needed)
            self._end += 1
        self._due = (start + self._end + 1) // 2
        self._window = min(_WINDOW_GROWTH * self._window, _LARGEST_WINDOW)
        return _batches(own) + _batches(others)

    def _needed(self, entry: E) -> list[Part]:
        raise NotImplementedError


class SmallFiles(_Ahead[FileEntry]):
    """The small files of one document, to bring their chunks."""

    def __init__(self, listing: Listing) -> None:
        super().__init__(_small_files(listing))

    def _needed(self, entry: FileEntry) -> list[Part]:
        try:
            return [part for part in entry.parts() if part.reference is not None]
        except FormatError:
            return []  # whoever reads that file is told


class Subfolders(_Ahead[FolderEntry]):
    """The folders of one document that have a document of their own, to bring that."""

    def __init__(self, listing: Listing) -> None:
        super().__init__(_subfolders(listing))

    def _needed(self, entry: FolderEntry) -> list[Part]:
        try:
            return [Part(_DOCUMENT_BYTES, entry.reference())]
        except FormatError:
            return []  # whoever looks into that folder is told


def _batches(parts: Sequence[Part]) -> list[list[Reference]]:
    """Cut what is needed into batches of BATCH_BYTES at most, or one part."""
    batches: list[list[Reference]] = []
    room = 0
    for part in parts:
        assert part.reference is not None
        if part.size > room:
            batches.append([])
            room = BATCH_BYTES
        batches[-1].append(part.reference)
        room -= part.size
    return batches


def _small_files(listing: Listing) -> Iterator[FileEntry]:
    """Yield files of up to SMALL_FILE_BYTES with contents."""
    for entry in _walk(listing):
        if not isinstance(entry, FileEntry) or entry.spilled:
            continue
        if entry.has_parts and entry.size <= SMALL_FILE_BYTES:
            yield entry


def _subfolders(listing: Listing) -> Iterator[FolderEntry]:
    for entry in _walk(listing):
        if isinstance(entry, FolderEntry) and entry.document is None:
            yield entry


def _walk(listing: Listing) -> Iterator[FileEntry | FolderEntry]:
    """Yield all entries as cp and find come by: each folder's contents right behind it.

    Not recursive: paths of the original's bundles may have 2,000 folders.
    """
    under_way = [_by_name(listing)]
    while under_way:
        for entry in under_way[-1]:
            yield entry
            if isinstance(entry, FolderEntry) and entry.document is not None:
                under_way.append(_by_name(entry.document))
                break
        else:
            under_way.pop()


def _by_name(listing: Listing) -> Iterator[FileEntry | FolderEntry]:
    for name in sorted((*listing.files, *listing.folders)):
        entry = listing.find(name)
        assert entry is not None
        yield entry

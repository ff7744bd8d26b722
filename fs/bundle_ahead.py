"""Bringing the small files of a folder here ahead of whoever reads them one after the other."""

from collections.abc import Iterator

from libernet.blocks.documents import FileEntry, Listing
from libernet.blocks.errors import FormatError
from libernet.blocks.reference import Reference

SMALL_FILE_BYTES = 64 * 1024
"""A larger file is worth a request of its own."""

_FIRST_WINDOW_FILES = 16
"""Files brought for a reader who may want only one: the rest must not make it wait."""

_WINDOW_GROWTH = 4
_WINDOW_FILES = 512
_WINDOW_BYTES = 4 * 1024 * 1024


class SmallFiles:
    """The small files of one document, those of inlined folders too, in the order of listing.

    State
      _entries   the files
      _places    where each is in that order, by the entry's identity: the document keeps them
      _latest    the place that a reader came to last
      _end       up to where they were handed out
      _due       the place at which a reader makes the next ones due: half-way through the last
      _window    how many are handed out next, more each time that the reader goes on
    """

    def __init__(self, listing: Listing) -> None:
        self._entries = list(_small_files(listing))
        self._places = {id(entry): place for place, entry in enumerate(self._entries)}
        self._latest = 0
        self._end = 0
        self._due = 0
        self._window = _FIRST_WINDOW_FILES

    def from_here(self, entry: FileEntry) -> list[Reference]:
        """Return the chunks of the next small files, from *entry* on or from where it went on.

        Empty until the reader has come half-way through what was returned last. Who begins
        elsewhere, or far back once more, gets a few first: what is already here is not fetched.
        """
        place = self._places.get(id(entry))
        if place is None:
            return []
        if not self._latest - _WINDOW_FILES <= place <= self._end:
            self._end = self._due = place
            self._window = _FIRST_WINDOW_FILES
        self._latest = place
        return self._next_window() if place >= self._due else []

    def _next_window(self) -> list[Reference]:
        found: list[Reference] = []
        sizes = 0
        start = self._end
        for entry in self._entries[start : start + self._window]:
            self._end += 1
            sizes += entry.size
            found += _chunks(entry)
            if sizes > _WINDOW_BYTES:
                break
        self._due = (start + self._end + 1) // 2
        self._window = min(_WINDOW_GROWTH * self._window, _WINDOW_FILES)
        return found


def _chunks(entry: FileEntry) -> list[Reference]:
    try:
        return [part.reference for part in entry.parts() if part.reference is not None]
    except FormatError:
        return []  # whoever reads that file is told


def _small_files(listing: Listing) -> Iterator[FileEntry]:
    """Yield files of up to SMALL_FILE_BYTES with contents, folder by folder as a walk would."""
    waiting = [listing]
    while waiting:
        current = waiting.pop()
        for name in sorted(current.files):
            entry = current.files[name]
            if entry.contents and not entry.spilled and entry.size <= SMALL_FILE_BYTES:
                yield entry
        inlined = [current.folders[name].document for name in sorted(current.folders)]
        waiting += [document for document in reversed(inlined) if document is not None]

"""Bringing the small files of a folder here ahead of whoever reads them one after the other."""

from collections.abc import Iterator

from libernet.blocks.documents import FileEntry, Listing
from libernet.blocks.errors import FormatError
from libernet.blocks.reference import Reference

SMALL_FILE_BYTES = 64 * 1024
"""A larger file is worth a request of its own."""

_WINDOW_FILES = 512
_WINDOW_BYTES = 4 * 1024 * 1024


class SmallFiles:
    """The small files of one document, those of inlined folders too, in the order of listing.

    State
      _entries   the files
      _places    where each is in that order, by the entry's identity: the document keeps them
      _asked     how many from the start on were handed out
      _due       the place at which a reader makes the next ones due: half-way through the last
    """

    def __init__(self, listing: Listing) -> None:
        self._entries = list(_small_files(listing))
        self._places = {id(entry): place for place, entry in enumerate(self._entries)}
        self._asked = 0
        self._due = 0

    def from_here(self, entry: FileEntry) -> list[Reference]:
        """Return the chunks of the next small files from *entry* on, those not returned before.

        Empty until the reader has come half-way through what was returned last.
        """
        place = self._places.get(id(entry))
        if place is None or place < self._due:
            return []
        found: list[Reference] = []
        sizes = 0
        start = self._asked = max(self._asked, place)
        for each in self._entries[self._asked : self._asked + _WINDOW_FILES]:
            self._asked += 1
            sizes += each.size
            try:
                found += [part.reference for part in each.parts() if part.reference is not None]
            except FormatError:
                continue  # whoever reads that file is told
            if sizes > _WINDOW_BYTES:
                break
        self._due = (start + self._asked + 1) // 2
        return found


def _small_files(listing: Listing) -> Iterator[FileEntry]:
    """Yield files of up to SMALL_FILE_BYTES with contents, folder by folder as a walk would."""
    waiting = [listing]
    while waiting:
        current = waiting.pop()
        for name in sorted(current.files):
            entry = current.files[name]
            if entry.contents and entry.size <= SMALL_FILE_BYTES:
                yield entry
        inlined = [current.folders[name].document for name in sorted(current.folders)]
        waiting += [document for document in reversed(inlined) if document is not None]

"""Documents that were parsed, with what readers of them want to know again and again."""

import errno
from bisect import bisect_left
from dataclasses import dataclass, field

from libernet.blocks.documents import FileEntry, FolderEntry, Listing, Page
from libernet.fs.bundle_ahead import Subfolders
from libernet.fs.bundle_files import FilesAhead
from libernet.fs.bundle_growth import Growth
from libernet.fs.nodes import Spot
from libernet.fs.tree import os_error


@dataclass(slots=True)
class OpenedDocument:
    """A parsed document or page, and its small files and folders in order.

    *growth* stands behind all folders of a bundle of the original's: more may come into them.
    *page* is what its folder says of it, None for a document. State: _names, of all entries, once
    somebody wanted them.
    """

    listing: Listing
    small_files: FilesAhead
    subfolders: Subfolders
    json_bytes: int
    growth: Growth | None = None
    index: bytes | None = None
    page: Page | None = None
    _names: list[bytes] | None = field(default=None, init=False)

    @property
    def names(self) -> list[bytes]:
        """All names in order."""
        if self._names is not None:
            return self._names
        names = sorted((*self.listing.files, *self.listing.folders))
        if self.growth is None:
            self._names = names
        return names

    def entry(self, name: bytes) -> FileEntry | FolderEntry:
        """Return the entry of one of the names."""
        entry = self.listing.find(name)
        assert entry is not None, "it is one of the names"
        return entry

    def spot(self, name: bytes) -> Spot | None:
        """Return where one of the names stands, None while there may be more of them."""
        if self.growth is not None:
            return None
        first = self.page.first if self.page else b""
        return Spot(first, bisect_left(self.names, name), len(self.names))

    async def find_later(self, name: bytes) -> FileEntry | FolderEntry:
        """Return the entry *name* that may come yet; raise what keeps it from being known."""
        if self.growth is not None:
            lacking = await self.growth.grow(lambda: self.listing.find(name) is not None)
            entry = self.listing.find(name)
            if entry is not None:
                return entry
            if lacking is not None:
                raise lacking
        raise os_error(errno.ENOENT)

    @property
    def entries(self) -> int:
        """How many entries of bundles are kept by this, beside a document of at most 1 MiB."""
        return 0 if self.growth is None else self.growth.tree.entries

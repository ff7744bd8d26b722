"""The bundles that a person opened: `bundles/NAME`."""

import errno
import os
import time

import trio

from libernet.blocks.errors import LibernetError
from libernet.blocks.names import check_name
from libernet.blocks.reference import Reference
from libernet.fs.bundle_view import BundleRoot, Bundles
from libernet.fs.journal import Journal
from libernet.fs.nodes import Appearance, FolderNode, Node
from libernet.fs.storage import Storage
from libernet.fs.tree import os_error

_ID_DIGITS = 12
"""How much of a reference's id names a bundle that was given no name."""


class Shelf:
    """Open bundles, by name; they stay open across restarts.

    State: _opened, as the journal has it. `writing` is held whenever either is changed.
    """

    def __init__(self, storage: Storage, writing: trio.Lock) -> None:
        self._journal: Journal = storage.journal
        self._writing = writing
        self._opened = storage.reader.opened()

    def references(self) -> dict[bytes, Reference]:
        """Return what is open, by name."""
        return dict(self._opened)

    async def open(self, reference: Reference, name: bytes | None) -> bytes:
        """Open a bundle under a name, its own id's first digits if None; return that name.

        Opening the same again changes nothing. Raises FormatError for what is no name, and
        LibernetError when another bundle has it.
        """
        if name is None:
            name = str(reference.id)[:_ID_DIGITS].encode()
        check_name(name)
        async with self._writing:
            if self._opened.get(name, reference) != reference:
                raise LibernetError(
                    f"there is another bundle named {os.fsdecode(name)!r}: choose another name, or"
                    " close that one first"
                )
            if name not in self._opened:
                await trio.to_thread.run_sync(
                    self._journal.record_opened, name, reference, time.time_ns()
                )
                self._opened[name] = reference
        return name

    async def close(self, name: bytes) -> Reference:
        """Let a name go and return what it led to; FileNotFoundError if nothing."""
        async with self._writing:
            if name not in self._opened:
                raise os_error(errno.ENOENT)
            await trio.to_thread.run_sync(self._journal.record_closed, name)
            return self._opened.pop(name)


class ShelfFolder(FolderNode):
    """`bundles/`: what was opened, by name."""

    __slots__ = ("_bundles", "_shelf")

    def __init__(self, appearance: Appearance, shelf: Shelf, bundles: Bundles) -> None:
        super().__init__(appearance)
        self._shelf = shelf
        self._bundles = bundles

    async def lookup(self, name: bytes) -> Node:
        reference = self._shelf.references().get(name)
        if reference is None:
            raise os_error(errno.ENOENT)
        root = self._folder(reference)
        await root.look_here()
        return root

    async def children(self, after: bytes, limit: int) -> list[tuple[bytes, Node]]:
        opened = self._shelf.references()
        names = sorted(name for name in opened if name > after)
        return [(name, self._folder(opened[name])) for name in names[:limit]]

    def _folder(self, reference: Reference) -> BundleRoot:
        return self._bundles.folder(reference, self.appearance)

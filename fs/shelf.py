"""The bundles and streams that a person opened: `bundles/NAME`."""

import errno
import os
import time

import trio

from libernet.blocks.addresses import Address
from libernet.blocks.errors import LibernetError
from libernet.blocks.names import check_name
from libernet.blocks.reference import Reference
from libernet.fs.bundle_view import BundleRoot, Bundles
from libernet.fs.journal import Journal
from libernet.fs.nodes import Appearance, FolderNode, Node
from libernet.fs.storage import Storage
from libernet.fs.stream_view import StreamFolder, Streams
from libernet.fs.tree import os_error

_ID_DIGITS = 12
"""How much of a reference's id names a bundle that was given no name."""


class Shelf:
    """Open bundles and streams, by name; they stay open across restarts.

    State: _opened, as the journal has it. `writing` is held whenever either is changed.
    """

    def __init__(self, storage: Storage, writing: trio.Lock) -> None:
        self._journal: Journal = storage.journal
        self._writing = writing
        self._opened = storage.reader.opened()

    def opened(self) -> dict[bytes, Address]:
        """Return what is open, by name."""
        return dict(self._opened)

    def references(self) -> dict[bytes, Reference]:
        """Return the bundles that are open, by name."""
        return {
            name: address
            for name, address in self._opened.items()
            if isinstance(address, Reference)
        }

    async def open(self, address: Address, name: bytes | None) -> bytes:
        """Open something under a name, its own id's first digits if None; return that name.

        Opening the same again changes nothing. Raises FormatError for what is no name, and
        LibernetError when another bundle has it.
        """
        if name is None:
            own = address.id if isinstance(address, Reference) else address.sd_hash
            name = str(own)[:_ID_DIGITS].encode()
        check_name(name)
        async with self._writing:
            if self._opened.get(name, address) != address:
                raise LibernetError(
                    f"there is another bundle named {os.fsdecode(name)!r}: choose another name, or"
                    " close that one first"
                )
            if name not in self._opened:
                await trio.to_thread.run_sync(
                    self._journal.record_opened, name, address, time.time_ns()
                )
                self._opened[name] = address
        return name

    async def close(self, name: bytes) -> Address:
        """Let a name go and return what it led to; FileNotFoundError if nothing."""
        async with self._writing:
            if name not in self._opened:
                raise os_error(errno.ENOENT)
            await trio.to_thread.run_sync(self._journal.record_closed, name)
            return self._opened.pop(name)


class ShelfFolder(FolderNode):
    """`bundles/`: what was opened, by name."""

    __slots__ = ("_bundles", "_shelf", "_streams")

    def __init__(
        self, appearance: Appearance, shelf: Shelf, bundles: Bundles, streams: Streams
    ) -> None:
        super().__init__(appearance)
        self._shelf = shelf
        self._bundles = bundles
        self._streams = streams

    async def lookup(self, name: bytes) -> Node:
        address = self._shelf.opened().get(name)
        if address is None:
            raise os_error(errno.ENOENT)
        folder = self._folder(address)
        if isinstance(folder, BundleRoot):
            await folder.look_here()
        return folder

    async def children(self, after: bytes, limit: int) -> list[tuple[bytes, Node]]:
        opened = self._shelf.opened()
        names = sorted(name for name in opened if name > after)
        return [(name, self._folder(opened[name])) for name in names[:limit]]

    def _folder(self, address: Address) -> BundleRoot | StreamFolder:
        if isinstance(address, Reference):
            return self._bundles.folder(address, self.appearance)
        return StreamFolder(self.appearance, self._streams, address.sd_hash)

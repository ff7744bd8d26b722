"""A node with its commands but without a mount, and a note of what it told the network."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from libernet.blocks.documents import Document, FolderEntry, Listing, parse_document, parse_page
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
from libernet.blocks.sealing import unseal
from libernet.blocks.source import BlockSource
from libernet.blocks.store import Store
from libernet.fs import storage
from libernet.fs.node import LocalNode
from libernet.fs.node_commands import NodeCommands
from libernet.fs.outside import Outside
from libernet.fs.storage import Storage
from libernet.net.local import LocalSource
from tests.support.caller import Caller, node_settings
from tests.support.consistency import assert_consistent

_SECONDS = 60  # longer than anything here takes on a busy machine


class SharingNode:
    """A node that runs; `announced` and `withdrawn` list what it told the network, in order.

    `broken` names the rules of the consistency check that the test breaks itself.
    """

    def __init__(
        self,
        folder: Path,
        disk: Storage,
        source: BlockSource | None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.announced: list[BlockId] = []
        self.withdrawn: list[BlockId] = []
        self.broken: set[str] = set()
        self.settings = node_settings(folder)
        self.storage = disk
        self.store = disk.store
        outside = Outside(announce=self.announced.append, withdraw=self.withdrawn.append)
        source = source or LocalSource(disk.store)
        self.node = LocalNode(disk, source, self.settings, outside=outside, clock=clock)
        self.caller = Caller(self.node.namespace)
        commands = NodeCommands(self.settings, self.node, disk)
        self.handlers = commands.handlers()
        self.telling = commands.telling()

    async def command(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Do what a command asks of the mount."""
        return await self.handlers[name](arguments)

    async def share(self, path: str) -> Reference:
        """Share what stands at a path below the mount point."""
        return Reference.parse((await self.command("share", path=path))["reference"])

    async def open(self, reference: Reference, name: str | None = None) -> str:
        """Open a bundle; return its name."""
        answer = await self.command("open", reference=str(reference), name=name)
        assert answer["path"] == f"{self.settings.mountpoint}/bundles/{answer['name']}"
        found: str = answer["name"]
        return found

    async def close(self, name: str) -> None:
        """Close a bundle."""
        assert await self.command("close", name=name) == {}


@asynccontextmanager
async def sharing_node(
    folder: Path,
    source: BlockSource | None = None,
    *,
    clock: Callable[[], int] = time.time_ns,
) -> AsyncIterator[SharingNode]:
    """Run the node whose state is in *folder*; its blocks come from its own store, or *source*.

    At the end, unless the test failed, the consistency check finds nothing wrong.
    """
    folder.mkdir(exist_ok=True)
    with trio.fail_after(_SECONDS), storage.opened(folder) as disk:
        node = SharingNode(folder, disk, source, clock)
        async with node.node.running():
            yield node
    assert_consistent(folder, broken=node.broken)


class Reachable:
    """Everything that somebody with a reference can come to.

    State: `blocks` by id, `plaintexts` of all documents, `paths` of all that they list.
    """

    def __init__(self, store: Store, reference: Reference) -> None:
        self._store = store
        self.blocks: set[BlockId] = set()
        self.plaintexts: list[bytes] = []
        self.paths: set[bytes] = set()
        self._document(reference, b"")

    def _document(self, reference: Reference, path: bytes) -> None:
        self._listing(parse_document(self._plaintext(reference)), path)

    def _listing(self, listing: Listing, path: bytes) -> None:
        for page in listing.pages:
            self._listing(parse_page(self._plaintext(page.reference()), page), path)
        for name, entry in listing.files.items():
            self.paths.add(path + name)
            parts = entry.part_lists() if entry.spilled else entry.parts()
            self.blocks |= {part.reference.id for part in parts if part.reference is not None}
        for name, folder in listing.folders.items():
            self.paths.add(path + name)
            self._folder(folder, path + name + b"/")

    def _folder(self, folder: FolderEntry, path: bytes) -> None:
        if isinstance(folder.document, Document):
            self._listing(folder.document, path)
        else:
            self._document(folder.reference(), path)

    def _plaintext(self, reference: Reference) -> bytes:
        self.blocks.add(reference.id)
        self.plaintexts.append(unseal(reference, self._store.get(reference.id)))
        return self.plaintexts[-1]

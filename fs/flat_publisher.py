"""Publishing a folder or file as a bundle that the original Libernet restores, for everybody.

What is published is read as the mount shows it, through nodes of the read-only part: those never
change, so nothing needs to be held still meanwhile.
"""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import trio
from typing_extensions import Buffer

from libernet.blocks.errors import LibernetError
from libernet.blocks.flat_writer import FlatFile, FlatWriter, lacks_room, parts_of
from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
from libernet.blocks.store import Store
from libernet.fs.nodes import FileNode, FolderNode, Incomplete, LinkNode, Node
from libernet.fs.publications import Kind, Publications

_PAGE_ENTRIES = 1000
_MAX_HOPS = 40  # Linux's limit of links that one path may lead through

_NO_FILE: Final = "is neither file, folder nor link"
_NO_ROOM: Final = "has no room in the bundle's top document"
_NO_TARGET: Final = "is a link to no file or folder that is published with it"


@dataclass(frozen=True, slots=True)
class FlatPublication:
    """What was published, and what is not in it: reasons by path."""

    reference: Reference
    left_out: dict[bytes, str]


class FlatPublisher:
    """Publish flat bundles, one at a time.

    State: `_busy`, held for a whole publication, from the first block to the journal's commit. Who
    collects waits for it once, after a collection began and before it looks into the journal.
    """

    def __init__(
        self, store: Store, publications: Publications, announce: Callable[[BlockId], None]
    ) -> None:
        self._store = store
        self._publications = publications
        self._announce = announce
        self._busy = trio.Lock()

    async def settled(self) -> None:
        """Return when who was publishing has told the journal, or given up."""
        async with self._busy:
            pass

    async def publish(
        self, name: bytes, node: Node, *, path: bytes, index: bytes | None = None
    ) -> FlatPublication:
        """Return what opens a new bundle with what is in a folder, or a file called *name*.

        *node* is of the read-only part; *path* is what the journal remembers of it; *index* names
        the file in the folder that stands for all of it. Everything is durable, and announced.
        Raises LibernetError where there is no such file, or more than a bundle holds, and for what
        cannot be read or stored.
        """
        async with self._busy:
            writer = FlatWriter(self._put)
            copying = _Copying(writer)
            if isinstance(node, FolderNode):
                await copying.folder(node)
            else:
                await copying.entry(_Place(b"", ()), name, node)
                if copying.left_out:
                    raise LibernetError(f"{os.fsdecode(name)!r} {copying.left_out[name]}")
            if index is not None and index not in copying.top_files:
                raise LibernetError(f"{os.fsdecode(index)!r} is no file in the top folder")
            reference, left_out = await trio.to_thread.run_sync(self._finish, writer, index)
            copying.left_out.update(dict.fromkeys(left_out, _NO_ROOM))
            await self._publications.record(str(reference), path, Kind.FLAT)
        self._announce(reference.id)
        return FlatPublication(reference, copying.left_out)

    def _put(self, block_id: BlockId, block: Buffer) -> None:
        trio.from_thread.check_cancelled()  # the mount ends
        self._store.put(block_id, block)

    def _finish(self, writer: FlatWriter, index: bytes | None) -> tuple[Reference, list[bytes]]:
        outcome = writer.write(index)
        self._store.flush()
        self._store.like.make_public(writer.blocks)
        return outcome


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder's path, and that folder behind all those that it stands in, the top one first."""

    path: bytes
    trail: tuple[FolderNode, ...]

    def below(self, name: bytes) -> bytes:
        return self.path + b"/" + name if self.path else name


class _Copying:
    """Give everything in a folder to a FlatWriter.

    State: left_out, what was not, with the reason; top_files, the names of files in the top folder
    """

    def __init__(self, writer: FlatWriter) -> None:
        self.left_out: dict[bytes, str] = {}
        self.top_files: set[bytes] = set()
        self._writer = writer

    async def folder(self, top: FolderNode) -> None:
        """Add all that is below a folder."""
        waiting = [_Place(b"", (top,))]
        while waiting:
            place = waiting.pop()
            async with aclosing(_children(place.trail[-1])) as children:
                async for name, node in children:
                    path = place.below(name)
                    if not isinstance(node, FolderNode):
                        await self.entry(place, name, node)
                    elif not self._leaves_out(path, lacks_room(path)):
                        self._writer.add_folder(path)
                        waiting.append(_Place(path, (*place.trail, node)))

    async def entry(self, place: _Place, name: bytes, node: Node) -> None:
        """Add what is no folder itself."""
        path = place.below(name)
        link, found = None, node
        if isinstance(node, LinkNode):
            link = node.target()
            target = await _followed(place, link)
            if target is None:
                self.left_out[path] = _NO_TARGET
                return
            found = target
        if isinstance(found, FolderNode):
            if not self._leaves_out(path, lacks_room(path)):
                self._writer.add_folder(path, link)
        elif isinstance(found, FileNode):
            if not self._leaves_out(path, lacks_room(path, found.appearance.size, link)):
                self._writer.add_file(path, await self._file(found, link))
                if not place.path:
                    self.top_files.add(name)
        else:
            self.left_out[path] = _NO_FILE

    def _leaves_out(self, path: bytes, reason: str | None) -> bool:
        if reason is not None:
            self.left_out[path] = reason
        return reason is not None

    async def _file(self, node: FileNode, link: bytes | None) -> FlatFile:
        look = node.appearance
        parts = []
        for offset, size in parts_of(look.size):
            node.read_ahead(offset + size, size)
            chunk = await node.read(offset, size)
            if len(chunk) != size:
                raise LibernetError("a file ended before its end")
            parts.append(await trio.to_thread.run_sync(self._writer.store, chunk))
        return FlatFile(look.size, look.mtime_ns, look.mode, parts, link)


async def _children(folder: FolderNode) -> AsyncGenerator[tuple[bytes, Node], None]:
    """Yield what is in a folder, by name; LibernetError where that is not all known."""
    after = b""
    while page := await folder.children(after, _PAGE_ENTRIES):
        if isinstance(page, Incomplete):
            raise page.error
        for name, node in page:
            yield name, node
        after = page[-1][0]


async def _followed(place: _Place, target: bytes) -> Node | None:
    """Return what a link in a folder leads to: None where that is nothing below the top folder."""
    trail, hops = list(place.trail), 0
    waiting = _parts(target)
    while waiting:
        name = waiting.pop()
        if name == b"/":
            return None
        if name == b"..":
            trail.pop()
        elif name not in {b"", b"."}:
            try:
                node = await trail[-1].lookup(name)
            except FileNotFoundError:
                return None
            if isinstance(node, LinkNode):
                hops += 1
                waiting += _parts(node.target())
            elif isinstance(node, FolderNode):
                trail.append(node)
            else:
                return None if waiting else node
        if not trail or hops > _MAX_HOPS:
            return None
    return trail[-1] if trail else None


def _parts(target: bytes) -> list[bytes]:
    """Return the names in a link's text, last first; / stands for the root of the machine."""
    first, *others = target.split(b"/")
    return [*reversed(others), first or b"/"]

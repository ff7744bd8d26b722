"""What programs learn of a file or folder by reading attributes: `user.libernet.*`.

They are not listed, so that nothing copies them, and cannot be set. They say what is so, and do
nothing to make it so: asking publishes nothing.
"""

import stat
from collections.abc import Iterator
from typing import Final

from libernet.fs.bundle_view import Bundles
from libernet.fs.checkpoint import Checkpointer
from libernet.fs.files import Files
from libernet.fs.inode import ROOT_INO, Inode
from libernet.fs.journal_reader import JournalReader
from libernet.fs.nodes import Appearance, FolderNode, Node
from libernet.fs.overlay import Overlay
from libernet.fs.snapshots import Snapshots
from libernet.fs.xattrs import RESERVED

REFERENCE: Final = RESERVED + b"reference"
"""What opens it in the network, as it is now: that of the nearest folder that has a document of its
own, and the path from there. So it may open more than what was asked about."""

DURABLE: Final = RESERVED + b"durable"
"""1 when a crash takes nothing of it any more, of a folder nothing of what is below; else 0. 1 of
all that is read-only: nothing of it waits to be written."""

PUBLISHED: Final = RESERVED + b"published"
"""1 when the newest snapshot shows it as it is now, else 0; of `backups`, and of the mount point,
when that holds for all in it. 1 of what has a reference elsewhere, 0 of the folders that no
document describes."""

_PAGE_ENTRIES = 256


class Reports:
    """Answer for `backups/` from what is in memory, in the journal and in the newest snapshots.

    What is below a folder is not looked at one by one: while anything at all is not durable, the
    answers for folders are those of one that changed.
    """

    def __init__(
        self,
        *,
        overlay: Overlay,
        files: Files,
        checkpointer: Checkpointer,
        snapshots: Snapshots,
        reader: JournalReader,
        bundles: Bundles,
        look: Appearance,
    ) -> None:
        self._overlay = overlay
        self._files = files
        self._checkpointer = checkpointer
        self._snapshots = snapshots
        self._reader = reader
        self._bundles = bundles
        self._look = look

    async def of_inode(self, ino: int, name: bytes) -> bytes | None:
        """Return the value of an attribute of something in `backups/`, None if there is none.

        LibernetError where documents of the newest snapshot cannot be read.
        """
        if name == DURABLE:
            return _flag(self._is_durable(self._overlay.inode(ino)))
        if name not in {PUBLISHED, REFERENCE}:
            return None
        if ino == ROOT_INO:
            return _flag(await self._is_all_published()) if name == PUBLISHED else None
        node = await self._published(ino)
        if name == PUBLISHED:
            return _flag(node is not None)
        return None if node is None else of_node(node, REFERENCE)

    async def _is_all_published(self) -> bool:
        after = b""
        while page := self._overlay.children(ROOT_INO, after, _PAGE_ENTRIES):
            for _, inode in page:
                if await self._published(inode.ino) is None:
                    return False
            after = page[-1][0]
        return True

    async def _published(self, ino: int) -> Node | None:
        """Return what shows an inode as it is now, in the newest snapshot of its backup."""
        for backup, path in self._paths(ino):
            latest = self._snapshots.latest(backup)
            if latest is None or not self._is_unchanged(ino, latest.generation):
                continue
            root = self._bundles.folder(latest.reference, self._look)
            await root.look_here()
            node = await _below(root, path)
            if (
                node is not None
                and self._is_unchanged(ino, latest.generation)
                and _shows(node, self._overlay.inode(ino))
            ):
                return node
        return None

    def _is_unchanged(self, ino: int, generation: int) -> bool:
        """Return whether the inode, and what is below it, is as it was in a generation."""
        inode = self._overlay.find(ino)
        if inode is None or not self._is_durable(inode):
            return False
        return self._reader.changed(ino) <= generation

    def _is_durable(self, inode: Inode) -> bool:
        if inode.is_folder:
            return not self._checkpointer.is_dirty
        return self._overlay.is_committed(inode.ino) and self._files.is_committed(inode.ino)

    def _paths(self, ino: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield backup and path in it for each name that an inode has in the journal."""
        if self._overlay.inode(ino).parent == ROOT_INO:
            yield ino, []
            return
        for parent, name in self._reader.names(ino):
            path = [name]
            folder = parent
            while (inode := self._reader.inode(folder)) is not None and inode.parent != ROOT_INO:
                [(folder, above)] = self._reader.names(folder)
                path.append(above)
            if inode is not None:
                yield folder, path[::-1]


def of_node(node: Node, name: bytes) -> bytes | None:
    """Return the value of an attribute of something read-only, None if there is none."""
    if name == DURABLE:
        return _flag(True)
    if name not in {PUBLISHED, REFERENCE}:
        return None
    address = node.address()
    if name == PUBLISHED:
        return _flag(address is not None)
    return None if address is None else address.encode()


async def _below(root: FolderNode, path: list[bytes]) -> Node | None:
    node: Node = root
    for name in path:
        if not isinstance(node, FolderNode):
            return None
        try:
            node = await node.lookup(name)
        except FileNotFoundError:
            return None
    return node


def _shows(node: Node, inode: Inode) -> bool:
    """Return whether a node looks like an inode: another may have had its name."""
    look = node.appearance
    seen = (look.mode, look.uid, look.gid, look.mtime_ns, look.rdev)
    is_same = seen == (inode.mode, inode.uid, inode.gid, inode.mtime_ns, inode.rdev)
    return is_same and (stat.S_ISDIR(look.mode) or look.size == inode.size)


def _flag(is_so: bool) -> bytes:
    return b"1" if is_so else b"0"

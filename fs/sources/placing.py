"""Changes of a backup that no view asked for: made in the tree, and told to the views."""

from collections.abc import Mapping

import trio

from libernet.fs.backups import Backups
from libernet.fs.content import Extent
from libernet.fs.inode import Inode
from libernet.fs.notices import Notices
from libernet.fs.tree import Changes, NewInode

_PAGE_ENTRIES = 1000
_BETWEEN_PAUSES = 200  # removals between two moments in which others are served


class Placer:
    """Change what is below `backups/`, each time in one step that others cannot see in halves."""

    def __init__(self, backups: Backups, notices: Notices) -> None:
        self._backups = backups
        self._notices = notices

    def make(self, folder: int, name: bytes, new: NewInode) -> Inode:
        """Make something under a name that is free."""
        inode = self._backups.make(folder, name, new)
        self._note_name(folder, name)
        return inode

    def link(self, ino: int, folder: int, name: bytes) -> None:
        """Give an inode one more name."""
        self._backups.link(ino, folder, name)
        self._note_name(folder, name)
        self._note_inode(ino)

    def fill(self, ino: int, size: int, extents: list[Extent]) -> None:
        """Give a file another content, which is in the store."""
        self._backups.put_chunks(ino, size, extents)
        self._note_inode(ino)

    def change(
        self, ino: int, changes: Changes, xattrs: Mapping[bytes, bytes]
    ) -> tuple[Inode, list[bytes]]:
        """Give an inode attributes, and these extended ones alone; return those it cannot have."""
        changed = self._backups.replace_attributes(ino, changes, xattrs)
        self._note_inode(ino)
        return changed

    async def remove(self, folder: int, name: bytes, inode: Inode) -> list[int]:
        """Remove something with all that is in it; return the inodes that lost a name."""
        gone = []
        waiting = [(folder, name, inode, not inode.is_folder)]
        while waiting:
            parent, each, below, is_empty = waiting.pop()
            if not is_empty:
                waiting.append((parent, each, below, True))
                found = await self.known(below.ino)
                waiting.extend(
                    (below.ino, child, its, not its.is_folder) for child, its in found.items()
                )
                continue
            if below.is_folder:
                self._backups.rmdir(parent, each)
            else:
                self._backups.unlink(parent, each)
                self._note_inode(below.ino)
            self._note_name(parent, each)
            gone.append(below.ino)
            if len(gone) % _BETWEEN_PAUSES == 0:
                await trio.lowlevel.checkpoint()
        return gone

    def inode(self, ino: int) -> Inode:
        """Return an inode as it is now; FileNotFoundError if there is none."""
        return self._backups.inode(ino)

    def xattrs(self, ino: int) -> Mapping[bytes, bytes]:
        """Return all extended attributes of an inode."""
        return self._backups.xattrs(ino)

    async def known(self, folder: int) -> dict[bytes, Inode]:
        """Return what is in a folder, by name; others are served meanwhile."""
        found: dict[bytes, Inode] = {}
        after = b""
        while page := self._backups.children(folder, after, _PAGE_ENTRIES):
            found.update(page)
            after = page[-1][0]
            await trio.lowlevel.checkpoint()
        return found

    async def told(self) -> None:
        """Return when all views show what was changed before."""
        await self._notices.told()

    def _note_name(self, folder: int, name: bytes) -> None:
        if self._backups.is_known(folder):
            self._notices.name(folder, name)
            self._notices.inode(folder)

    def _note_inode(self, ino: int) -> None:
        if self._backups.is_known(ino):
            self._notices.inode(ino)


class DryPlacer(Placer):
    """Change nothing: what would be made has numbers of its own, and nothing in it."""

    def __init__(self, backups: Backups, notices: Notices) -> None:
        super().__init__(backups, notices)
        self._made: dict[int, Inode] = {}

    def make(self, folder: int, name: bytes, new: NewInode) -> Inode:
        ino = -1 - len(self._made)
        made = Inode(ino, new.mode, new.uid, new.gid, 0, 1, new.rdev, 0, 0, 0, folder, new.target)
        self._made[ino] = made
        return made

    def link(self, ino: int, folder: int, name: bytes) -> None:
        pass

    def fill(self, ino: int, size: int, extents: list[Extent]) -> None:
        pass

    def change(
        self, ino: int, changes: Changes, xattrs: Mapping[bytes, bytes]
    ) -> tuple[Inode, list[bytes]]:
        return self.inode(ino), []

    async def remove(self, folder: int, name: bytes, inode: Inode) -> list[int]:
        below = await self.known(inode.ino) if inode.is_folder else {}
        gone = [inode.ino]
        for each, found in below.items():
            gone += await self.remove(inode.ino, each, found)
        return gone

    def inode(self, ino: int) -> Inode:
        return self._made[ino] if ino < 0 else super().inode(ino)

    def xattrs(self, ino: int) -> Mapping[bytes, bytes]:
        return {} if ino < 0 else super().xattrs(ino)

    async def known(self, folder: int) -> dict[bytes, Inode]:
        return {} if folder < 0 else await super().known(folder)

"""A small tree of backups, in which things are named by their paths."""

import stat

from libernet.fs.inode import ROOT_INO, Inode
from libernet.fs.overlay import Overlay
from libernet.fs.tree import NewInode, Tree

FILE = NewInode(stat.S_IFREG | 0o644, 1000, 100)
FOLDER = NewInode(stat.S_IFDIR | 0o755, 1000, 100)


class SmallTree:
    """A tree with a clock of its own.

    There are the backups `one` and `two`. `one` holds the file `f`, which `d/link` leads to as
    well, the file `g`, the empty folder `empty`, and the folder `d` with the folder `d/e` in it.
    """

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self.now = 0
        self.tree = Tree(overlay, owner=(1000, 100), clock=self._tick)
        for path in ("one", "two", "one/d", "one/d/e", "one/empty"):
            self.make(path, FOLDER)
        for path in ("one/f", "one/g"):
            self.make(path)
        self.link("one/f", "one/d/link")

    def _tick(self) -> int:
        self.now += 1
        return self.now

    def place(self, path: str) -> tuple[int, bytes]:
        """Return the folder that *path* ends in, and the name there."""
        folder, _, name = path.rpartition("/")
        return self.inode(folder).ino, name.encode()

    def inode(self, path: str) -> Inode:
        ino = ROOT_INO
        for name in filter(None, path.split("/")):
            ino = self.tree.lookup(ino, name.encode()).ino
        return self.tree.inode(ino)

    def names(self, path: str) -> list[str]:
        found = self.tree.children(self.inode(path).ino, b"", 1000)
        return [name.decode() for name, _ in found]

    def make(self, path: str, new: NewInode = FILE) -> Inode:
        return self.tree.make(*self.place(path), new)

    def link(self, old: str, new: str) -> Inode:
        return self.tree.link(self.inode(old).ino, *self.place(new))

    def unlink(self, path: str) -> Inode:
        return self.tree.unlink(*self.place(path))

    def rmdir(self, path: str) -> Inode:
        return self.tree.rmdir(*self.place(path))

    def rename(self, old: str, new: str, flags: int = 0) -> Inode | None:
        return self.tree.rename(self.place(old), self.place(new), flags)

    def state(self) -> dict[str, Inode]:
        """Return everything there is, by path."""
        found: dict[str, Inode] = {}
        waiting = [""]
        while waiting:
            path = waiting.pop()
            found[path] = self.inode(path)
            if found[path].is_folder:
                waiting += [f"{path}/{name}".lstrip("/") for name in self.names(path)]
        return found

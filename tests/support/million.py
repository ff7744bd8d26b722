"""State folders with as many files as one likes, filled through the journal."""

import stat
import time
from pathlib import Path

from libernet.blocks.sealing import Sealer
from libernet.fs import storage
from libernet.fs.content import Extent, Piece
from libernet.fs.inode import FIRST_INO, ROOT_INO, Inode
from libernet.fs.journal import Batch
from libernet.fs.places import Places
from libernet.fs.storage import Storage

FILES_IN_FOLDER = 100

_BATCH_FILES = 20_000
_CONTENTS = 50


def content_of(number: int) -> bytes:
    """Return what the file of a number holds."""
    return b"content %d\n" % (number % _CONTENTS)


def wide_path(number: int) -> str:
    """Return the path of a file that stands in one folder with all others."""
    return f"{number:07}"


def deep_path(number: int) -> str:
    """Return the path of a file that has 99 beside it; a hundred such folders are in one."""
    folder = number // FILES_IN_FOLDER
    return f"{folder // 100:03}/{folder % 100:02}/{number:07}"


def fill(state: Path, backup: str, files: int, *, wide: bool) -> None:
    """Make a new state folder whose one backup has so many *files*; 20 s for a million."""
    Places.of(state).make()
    with storage.opened(state) as opened:
        filler = _Filler(opened, backup)
        for number in range(files):
            filler.add(wide_path(number) if wide else deep_path(number), number)
        filler.finish()


class _Filler:
    """State: folders by path, as numbers and counts of folders in them; batch, not applied yet."""

    def __init__(self, opened: Storage, backup: str) -> None:
        self._journal = opened.journal
        self._now = time.time_ns()
        self._next = FIRST_INO
        self._backup = backup
        self._folders = {"": ROOT_INO}
        self._counts = {"": 0}
        self._generation = 0
        self._batch: Batch
        self._begin_batch()
        sealer = Sealer(opened.secret)
        self._pieces = []
        for number in range(_CONTENTS):
            reference, block = sealer.seal(content_of(number))
            opened.store.put(reference.id, block)
            self._pieces.append(Piece(len(content_of(number)), chunk=reference))
        opened.store.flush()

    def add(self, path: str, number: int) -> None:
        """Add a file below the backup."""
        folder, _, name = f"{self._backup}/{path}".rpartition("/")
        piece = self._pieces[number % _CONTENTS]
        parent = self._folder(folder)
        ino = self._enter(parent, name)
        self._batch.inodes.append(self._inode(ino, stat.S_IFREG | 0o644, size=piece.length))
        self._batch.extents.append((ino, Extent(0, piece.length, piece)))
        if len(self._batch.inodes) >= _BATCH_FILES:
            self._apply()

    def finish(self) -> None:
        """Add the folders, whose counts are known now."""
        for path, ino in self._folders.items():
            parent = self._folders[path.rpartition("/")[0]] if path else 1
            self._batch.inodes.append(
                self._inode(ino, stat.S_IFDIR | 0o755, nlink=2 + self._counts[path], parent=parent)
            )
        self._batch.touched = set(self._folders.values())
        self._apply()

    def _folder(self, path: str) -> int:
        if path not in self._folders:
            above, _, name = path.rpartition("/")
            self._folders[path] = self._enter(self._folder(above), name)
            self._counts[path] = 0
            self._counts[above] += 1
        return self._folders[path]

    def _enter(self, parent: int, name: str) -> int:
        self._batch.entries.append((parent, name.encode(), self._next))
        self._next += 1
        return self._next - 1

    def _inode(
        self, ino: int, mode: int, *, size: int = 0, nlink: int = 1, parent: int = 0
    ) -> Inode:
        now = self._now
        return Inode(ino, mode, 0, 0, size, nlink, 0, now, now, now, parent=parent)

    def _apply(self) -> None:
        self._batch.next_ino = self._next
        self._journal.apply(self._batch)
        self._begin_batch()

    def _begin_batch(self) -> None:
        self._generation += 1
        self._batch = Batch(self._generation, self._next)

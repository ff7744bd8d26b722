"""Workloads: sequences of system calls, drawn from a seed or those of copying a folder."""

import dataclasses
import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.crash.model import Content, Item, Step, Tree

WRITE_BYTES = 120 * 1024
"""Longest write.

So long a write is one request when it begins at a page's start, or ends in the page it begins in.
Others the kernel cuts in two (seen: 6.18), and a crash can come between them.
"""

_PAGE_BYTES = 4096

_MAX_CONTENT_BYTES = 24 * 1024 * 1024
_MAX_ITEMS = 250
_LARGE_WRITES = (20, 45)  # in sequence, 2 to 5 MiB: long enough to be sealed while they go on
_NAMES = ("a", "näme", "with space", "UPPER", ".hidden", "n" * 100)


class Planner:
    """Draw steps that are possible one after the other, and let *tree* follow them."""

    def __init__(self, seed: int, tree: Tree) -> None:
        self._random = random.Random(seed)
        self._tree = tree
        self._made = 0
        self._seed = seed
        self._draws: dict[Callable[[], Iterator[Step]], int] = {
            self._small_file: 18,
            self._large_file: 2,
            self._append: 14,
            self._overwrite: 14,
            self._truncate: 6,
            self._mkdir: 4,
            self._remove: 8,
            self._rename: 10,
            self._symlink: 3,
            self._link: 4,
            self._chmod: 5,
            self._utimens: 8,
            self._xattr: 6,
            self._fsync: 6,
            self._write_unlinked: 3,
        }

    def steps(self, count: int) -> list[Step]:
        """Return about *count* steps."""
        steps: list[Step] = []
        while len(steps) < count:
            [draw] = self._random.choices(list(self._draws), list(self._draws.values()))
            if self._is_full() and draw not in (self._truncate, self._fsync):
                draw = self._remove
            for step in draw():
                self._tree.apply(step)
                steps.append(step)
        return steps

    def _is_full(self) -> bool:
        items = self._tree.items
        return len(items) > _MAX_ITEMS or self._tree.content_bytes() > _MAX_CONTENT_BYTES

    def _small_file(self) -> Iterator[Step]:
        path = self._new_path()
        yield Step("create", path, self._mode(0o600))
        if self._random.random() < 0.9:
            yield from self._write(path, 0)
        if self._random.random() < 0.3:
            yield Step("utimens", path, self._time())

    def _large_file(self) -> Iterator[Step]:
        path = self._new_path()
        yield Step("create", path, self._mode(0o600))
        for _ in range(self._random.randint(*_LARGE_WRITES)):
            size = len(self._tree.items[path].content)
            length = self._random.choice((WRITE_BYTES, WRITE_BYTES, 100_001))
            yield from self._write(path, size, length)
        if self._random.random() < 0.5:
            yield Step("fsync", path)

    def _append(self) -> Iterator[Step]:
        for path in self._some("file"):
            for _ in range(self._random.choice((1, 1, 3))):
                size = len(self._tree.items[path].content)
                yield from self._write(path, size)

    def _overwrite(self) -> Iterator[Step]:
        for path in self._some("file"):
            size = len(self._tree.items[path].content)
            offset = self._random.randint(0, size + self._random.choice((0, 0, 50_000)))
            yield from self._write(path, offset)

    def _truncate(self) -> Iterator[Step]:
        for path in self._some("file"):
            size = len(self._tree.items[path].content)
            choices = (0, self._random.randint(0, size), size + self._random.randint(1, 99_999))
            yield Step("truncate", path, self._random.choice(choices))

    def _mkdir(self) -> Iterator[Step]:
        yield Step("mkdir", self._new_path(), self._mode(0o700))

    def _remove(self) -> Iterator[Step]:
        [path] = self._some("file", "link", "folder") or [""]
        item = self._tree.items[path]
        if item.kind != "folder":
            yield Step("unlink", path)
        elif path and self._tree.is_empty(path):
            yield Step("rmdir", path)

    def _rename(self) -> Iterator[Step]:
        for path in self._some("file", "file", "link", "folder"):
            other = self._target(path, self._tree.items[path])
            if other != path:
                yield Step("rename", path, other=other)

    def _target(self, path: str, item: Item) -> str:
        """Return a new name for *path*, or one to rename over; never one below it."""
        if self._random.random() < 0.5:
            kinds = ("folder",) if item.kind == "folder" else ("file", "link")
            for other in self._some(*kinds):
                is_apart = not other.startswith(f"{path}/") and not path.startswith(f"{other}/")
                if is_apart and self._tree.is_empty(other):
                    return other
        other = self._new_path()
        return path if other.startswith(f"{path}/") else other

    def _symlink(self) -> Iterator[Step]:
        yield Step(
            "symlink", self._new_path(), other=self._random.choice(("x", "../a/b", "t" * 999))
        )

    def _link(self) -> Iterator[Step]:
        for path in self._some("file"):
            yield Step("link", path, other=self._new_path())

    def _chmod(self) -> Iterator[Step]:
        for path in self._some("file", "folder"):
            yield Step("chmod", path, self._mode(0o700))

    def _utimens(self) -> Iterator[Step]:
        for path in self._some("file", "folder", "link"):
            yield Step("utimens", path, self._time())

    def _xattr(self) -> Iterator[Step]:
        for path in self._some("file", "folder"):
            name = f"user.{self._random.choice(_NAMES)}"
            if name in self._tree.items[path].xattrs and self._random.random() < 0.5:
                yield Step("removexattr", path, other=name)
            else:
                content = self._content(self._random.choice((1, 100, 5000)))
                yield Step("setxattr", path, other=name, content=content)

    def _fsync(self) -> Iterator[Step]:
        for path in self._some("file", "file", "folder"):
            is_folder = self._tree.items[path].kind == "folder"
            yield Step("fsync_folder" if is_folder else "fsync", path)

    def _write_unlinked(self) -> Iterator[Step]:
        yield Step("write_unlinked", "", content=self._content())

    def _write(self, path: str, offset: int, length: int = 0) -> Iterator[Step]:
        """Write in calls of which each is one request."""
        content = self._content(length)
        to_page_end = -offset % _PAGE_BYTES
        for start, end in ((0, to_page_end), (to_page_end, content.length)):
            part = dataclasses.replace(
                content, start=content.start + start, length=min(end, content.length) - start
            )
            if part.length > 0:
                yield Step("write", path, offset + start, content=part)

    def _some(self, *kinds: str) -> list[str]:
        """Return one path of one of *kinds*, or none; '' is no choice."""
        kind = self._random.choice(kinds)
        paths = sorted(
            path for path, item in self._tree.items.items() if path and item.kind == kind
        )
        return [self._random.choice(paths)] if paths else []

    def _new_path(self) -> str:
        [folder] = (self._random.random() < 0.7 and self._some("folder")) or [""]
        self._made += 1
        name = f"{self._seed}-{self._made} {self._random.choice(_NAMES)}"
        return f"{folder}/{name}" if folder else name

    def _content(self, length: int = 0) -> Content:
        largest = self._random.choice((10, 1000, 20_000, WRITE_BYTES))
        length = length or self._random.randint(1, largest)
        return Content(self._random.randrange(1 << 40), length)

    def _mode(self, least: int) -> int:
        return least | self._random.randrange(0o1000)

    def _time(self) -> int:
        return self._random.randrange(2_000_000_000_000_000_000)


def copying(source: Path, tree: Tree, name: str) -> list[Step]:
    """Return the steps in which `cp -a` copies the folder *source* to *name*; *tree* follows."""
    steps = list(_copy_folder(source, name))
    for step in steps:
        tree.apply(step)
    return steps


def _copy_folder(source: Path, path: str) -> Iterator[Step]:
    status = source.stat()
    yield Step("mkdir", path, 0o700)
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        if entry.name == "__pycache__":
            continue  # others may be writing there
        target = f"{path}/{entry.name}"
        if entry.is_symlink():
            yield Step("symlink", target, other=os.readlink(entry.path))
        elif entry.is_dir():
            yield from _copy_folder(Path(entry.path), target)
        elif entry.is_file():
            yield from _copy_file(entry, target)
    yield Step("utimens", path, status.st_mtime_ns)
    yield Step("chmod", path, stat.S_IMODE(status.st_mode))


def _copy_file(entry: "os.DirEntry[str]", path: str) -> Iterator[Step]:
    status = entry.stat()
    yield Step("create", path, 0o600)
    for start in range(0, status.st_size, WRITE_BYTES):
        length = min(WRITE_BYTES, status.st_size - start)
        yield Step("write", path, start, content=Content(start, length, entry.path))
    yield Step("utimens", path, status.st_mtime_ns)
    yield Step("chmod", path, stat.S_IMODE(status.st_mode))

"""A seeded sequence of system calls, and the child process that makes them.

As a program: `workload.py run STEPS FOLDER` makes the calls that the JSON file STEPS lists, one by
one, and writes a line to its standard output before each ("started NUMBER NANOSECONDS"), after
each fsync that returned ("fsynced NUMBER") and at a call that failed ("failed NUMBER ERRNO"),
which is its last. `workload.py observe FOLDER` prints what is in a folder. Neither loads libernet.
"""

import dataclasses
import json
import os
import random
import stat
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for the program: a test needs it not

from tests.crash.model import Content, Item, Step, Tree, observe, parent

WRITE_BYTES = 120 * 1024
"""Longest write: the kernel passes it on in one request, so that it happens whole or not at all."""

_MAX_CONTENT_BYTES = 24 * 1024 * 1024
_MAX_ITEMS = 250
_LARGE_WRITES = (20, 45)  # in sequence, 2 to 5 MiB: long enough to be sealed while they go on
_NAMES = ("a", "näme", "with space", "UPPER", ".hidden", "n" * 100)
_OPEN_FILES = 4


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
            yield Step("write", path, 0, content=self._content())
        if self._random.random() < 0.3:
            yield Step("utimens", path, self._time())

    def _large_file(self) -> Iterator[Step]:
        path = self._new_path()
        yield Step("create", path, self._mode(0o600))
        for _ in range(self._random.randint(*_LARGE_WRITES)):
            size = len(self._tree.items[path].content)
            length = self._random.choice((WRITE_BYTES, WRITE_BYTES, 100_001))
            yield Step("write", path, size, content=self._content(length))
        if self._random.random() < 0.5:
            yield Step("fsync", path)

    def _append(self) -> Iterator[Step]:
        for path in self._some("file"):
            for _ in range(self._random.choice((1, 1, 3))):
                size = len(self._tree.items[path].content)
                yield Step("write", path, size, content=self._content())

    def _overwrite(self) -> Iterator[Step]:
        for path in self._some("file"):
            size = len(self._tree.items[path].content)
            offset = self._random.randint(0, size + self._random.choice((0, 0, 50_000)))
            yield Step("write", path, offset, content=self._content())

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
        yield Step("symlink", self._new_path(), other=self._random.choice(("x", "../a/b", "t" * 999)))

    def _link(self) -> Iterator[Step]:
        for path in self._some("file"):
            yield Step("link", path, other=self._new_path())

    def _chmod(self) -> Iterator[Step]:
        for path in self._some("file", "folder"):
            yield Step("chmod", path, self._mode(0o700))

    def _utimens(self) -> Iterator[Step]:
        for path in self._some("file", "folder", "link"):
            yield Step("utimens", path, self._time())

    def _fsync(self) -> Iterator[Step]:
        for path in self._some("file", "file", "folder"):
            is_folder = self._tree.items[path].kind == "folder"
            yield Step("fsync_folder" if is_folder else "fsync", path)

    def _write_unlinked(self) -> Iterator[Step]:
        yield Step("write_unlinked", "", content=self._content())

    def _some(self, *kinds: str) -> list[str]:
        """Return one path of one of *kinds*, or none; '' is no choice."""
        kind = self._random.choice(kinds)
        paths = sorted(
            path for path, item in self._tree.items.items() if path and item.kind == kind
        )
        return [self._random.choice(paths)] if paths else []

    def _new_path(self) -> str:
        [folder] = self._some("folder") if self._random.random() < 0.7 else [""] or [""]
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


def save(steps: list[Step], file: Path) -> None:
    """Write *steps* for the child."""
    file.write_text(json.dumps([dataclasses.astuple(step) for step in steps]))


def _load(file: Path) -> list[Step]:
    loaded = []
    for *fields, content in json.loads(file.read_text()):
        loaded.append(Step(*fields, content=Content(*content) if content else None))
    return loaded


class Caller:
    """Make the calls.

    State: _open, files that stay open by path, least used first; _unlinked, open ones without a
    name.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._open: OrderedDict[str, int] = OrderedDict()
        self._unlinked: list[int] = []

    def make(self, step: Step) -> None:
        """Make one call; those to open and close files may come with it."""
        getattr(self, f"_{step.call}")(self._at(step.path), step)

    def _at(self, path: str) -> str:
        return f"{self._folder}/{path}" if path else self._folder

    def _mkdir(self, path: str, step: Step) -> None:
        os.mkdir(path, step.value)

    def _create(self, path: str, step: Step) -> None:
        self._keep(step.path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, step.value))

    def _symlink(self, path: str, step: Step) -> None:
        os.symlink(step.other, path)

    def _link(self, path: str, step: Step) -> None:
        os.link(path, self._at(step.other))

    def _unlink(self, path: str, step: Step) -> None:
        os.unlink(path)
        self._lose(step.path)

    def _rmdir(self, path: str, step: Step) -> None:
        os.rmdir(path)

    def _rename(self, path: str, step: Step) -> None:
        os.rename(path, self._at(step.other))
        self._lose(step.other)
        for name in list(self._open):
            if name == step.path or name.startswith(f"{step.path}/"):
                os.close(self._open.pop(name))

    def _write(self, path: str, step: Step) -> None:
        assert step.content is not None
        content = step.content.read()
        assert os.pwrite(self._file(step.path), content, step.value) == len(content)

    def _write_unlinked(self, path: str, step: Step) -> None:
        assert step.content is not None
        for file in self._unlinked:
            os.write(file, step.content.read())

    def _truncate(self, path: str, step: Step) -> None:
        if step.path in self._open:
            os.ftruncate(self._open[step.path], step.value)
        else:
            os.truncate(path, step.value)

    def _chmod(self, path: str, step: Step) -> None:
        os.chmod(path, step.value)

    def _utimens(self, path: str, step: Step) -> None:
        os.utime(path, ns=(step.value, step.value), follow_symlinks=False)

    def _fsync(self, path: str, step: Step) -> None:
        os.fsync(self._file(step.path))

    def _fsync_folder(self, path: str, step: Step) -> None:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _file(self, path: str) -> int:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        return self._keep(path, os.open(self._at(path), os.O_RDWR))

    def _keep(self, path: str, file: int) -> int:
        self._open[path] = file
        if len(self._open) > _OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        return file

    def _lose(self, path: str) -> None:
        """Keep a file open whose name has gone, for a while."""
        if path in self._open:
            self._unlinked.append(self._open.pop(path))
        if len(self._unlinked) > _OPEN_FILES:
            os.close(self._unlinked.pop(0))


def run(steps_file: Path, folder: str, pause_seconds: float) -> None:
    """Make all calls in *folder* and report."""
    os.umask(0)
    caller = Caller(folder)
    for number, step in enumerate(_load(steps_file)):
        time.sleep(pause_seconds)
        os.write(1, b"started %d %d\n" % (number, time.monotonic_ns()))
        try:
            caller.make(step)
        except OSError as exc:
            os.write(1, b"failed %d %d\n" % (number, exc.errno or 0))
            return
        if step.call.startswith("fsync"):
            os.write(1, b"fsynced %d\n" % number)
    os.write(1, b"finished\n")


def main(arguments: list[str]) -> Any:
    if arguments[0] == "observe":
        return print(json.dumps(observe(Path(arguments[1]))))
    return run(Path(arguments[1]), arguments[2], float(arguments[3]))


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # closing files at the end would only ask a dead mount once more

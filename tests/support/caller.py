"""A namespace used by paths, the way that programs use a mount through the kernel."""

import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

from libernet.fs import storage
from libernet.fs.namespace import MOUNT_INO, Entry, Namespace, OpenFile
from libernet.fs.node import LocalNode
from libernet.fs.outside import Outside
from libernet.fs.settings import Settings
from libernet.fs.storage import Storage
from libernet.fs.tree import Changes, NewInode
from libernet.net.local import LocalSource
from tests.support.consistency import assert_consistent

OWNER = (1000, 1000)

_NEVER_SECONDS = 86_400.0
_LIST_ENTRIES = 7  # few, so that listings go on from somewhere


class Seen(NamedTuple):
    """How one entry looks; `same_as` is the first path of a file that has several."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    nlink: int
    content: bytes
    same_as: str
    xattrs: dict[bytes, bytes]


class Caller:
    """Do to a namespace what a path says; every number that it gives is forgotten again."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    @asynccontextmanager
    async def at(self, path: str) -> AsyncIterator[int]:
        """Provide the number of what *path* leads to, as long as it is needed."""
        ino, given = MOUNT_INO, []
        try:
            for name in path.split("/") if path else []:
                entry = await self.namespace.lookup(ino, os.fsencode(name))
                given.append(entry.ino)
                ino = entry.ino
            yield ino
        finally:
            for each in given:
                self.namespace.forget(each, 1)

    async def make(self, path: str, mode: int, *, target: str = "", rdev: int = 0) -> None:
        folder, name = _split(path)
        async with self.at(folder) as parent:
            new = NewInode(mode, *OWNER, rdev=rdev, target=os.fsencode(target))
            self._forget(self.namespace.make(parent, name, new))

    async def mkdir(self, path: str, mode: int = 0o755) -> None:
        await self.make(path, stat.S_IFDIR | mode)

    async def symlink(self, path: str, target: str) -> None:
        await self.make(path, stat.S_IFLNK | 0o777, target=target)

    async def create(self, path: str, content: bytes = b"", mode: int = 0o644) -> None:
        """Make a file with *content* and close it."""
        file = await self.open_new(path, mode)
        try:
            if content:
                await self.namespace.write(file, 0, content)
        finally:
            self.namespace.close(file)

    async def open_new(self, path: str, mode: int = 0o644) -> OpenFile:
        folder, name = _split(path)
        async with self.at(folder) as parent:
            new = NewInode(stat.S_IFREG | mode, *OWNER)
            entry, file = self.namespace.create(parent, name, new)
            self._forget(entry)
            return file

    async def open(self, path: str, flags: int = os.O_RDWR) -> OpenFile:
        async with self.at(path) as ino:
            return await self.namespace.open(ino, flags)

    @asynccontextmanager
    async def opened(self, path: str, flags: int = os.O_RDWR) -> AsyncIterator[OpenFile]:
        file = await self.open(path, flags)
        try:
            yield file
        finally:
            self.namespace.close(file)

    async def write(self, path: str, offset: int, content: bytes) -> None:
        async with self.opened(path) as file:
            await self.namespace.write(file, offset, content)

    async def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        async with self.opened(path, os.O_RDONLY) as file:
            if size < 0:
                size = (await self.stat(path)).look.size
            return bytes(await self.namespace.read(file, offset, size))

    async def change(self, path: str, changes: Changes, size: int | None = None) -> None:
        async with self.at(path) as ino:
            await self.namespace.set_attributes(ino, changes, size)

    async def truncate(self, path: str, size: int) -> None:
        await self.change(path, Changes(), size)

    async def set_xattr(self, path: str, name: bytes, value: bytes) -> None:
        async with self.at(path) as ino:
            await self.namespace.set_xattr(ino, name, value)

    async def remove_xattr(self, path: str, name: bytes) -> None:
        async with self.at(path) as ino:
            self.namespace.remove_xattr(ino, name)

    async def xattrs(self, path: str) -> dict[bytes, bytes]:
        """Return all extended attributes, as root sees them."""
        found = {}
        async with self.at(path) as ino:
            for name in await self.namespace.xattr_names(ino, is_root=True):
                value = await self.namespace.xattr(ino, name)
                assert value is not None
                found[name] = value
        return found

    async def link(self, path: str, new: str) -> None:
        folder, name = _split(new)
        async with self.at(path) as ino, self.at(folder) as parent:
            self._forget(self.namespace.link(ino, parent, name))

    async def unlink(self, path: str) -> None:
        folder, name = _split(path)
        async with self.at(folder) as parent:
            self.namespace.unlink(parent, name)

    async def rmdir(self, path: str) -> None:
        folder, name = _split(path)
        async with self.at(folder) as parent:
            self.namespace.rmdir(parent, name)

    async def rename(self, path: str, new: str, flags: int = 0) -> None:
        (old_folder, old_name), (new_folder, new_name) = _split(path), _split(new)
        async with self.at(old_folder) as old_parent, self.at(new_folder) as new_parent:
            self.namespace.rename((old_parent, old_name), (new_parent, new_name), flags)

    async def stat(self, path: str) -> Entry:
        async with self.at(path) as ino:
            return await self.namespace.stat(ino)

    async def readlink(self, path: str) -> str:
        async with self.at(path) as ino:
            return os.fsdecode(await self.namespace.target(ino))

    async def names(self, path: str, *, limit: int = _LIST_ENTRIES) -> list[str]:
        """Return the names in a folder, listed *limit* at a time."""
        async with self.at(path) as ino:
            names: list[str] = []
            after = b""
            while found := await self.namespace.children(ino, after, limit):
                names += [os.fsdecode(name) for name, _ in found]
                after = found[-1][0]
            return names

    async def published(self, backup: str) -> dict[str, Seen]:
        """Return how everything in the newest snapshot of a backup looks."""
        latest = await self.readlink(f"snapshots/{backup}/latest")
        return await self.picture(f"snapshots/{backup}/{latest}")

    async def picture(self, top: str) -> dict[str, Seen]:
        """Return how everything below *top* looks, by path relative to it."""
        found: dict[str, Seen] = {}
        first_paths: dict[int, str] = {}
        waiting = [""]
        while waiting:
            below = waiting.pop()
            for name in await self.names(_join(top, below)):
                path = _join(below, name)
                found[path] = await self._seen(_join(top, path), path, first_paths)
                if stat.S_ISDIR(found[path].mode):
                    waiting.append(path)
        return canonical(found)

    async def _seen(self, path: str, shown: str, first_paths: dict[int, str]) -> Seen:
        entry = await self.stat(path)
        look = entry.look
        content = b""
        if stat.S_ISREG(look.mode):
            content = await self.read(path)
        elif stat.S_ISLNK(look.mode):
            content = os.fsencode(await self.readlink(path))
        same_as = first_paths.setdefault(entry.ino, shown)
        nlink = look.nlink
        return Seen(
            mode=look.mode,
            uid=look.uid,
            gid=look.gid,
            size=look.size,
            mtime_ns=look.mtime_ns,
            nlink=nlink,
            content=content,
            same_as=same_as,
            xattrs=await self.xattrs(path),
        )

    def _forget(self, entry: Entry) -> None:
        self.namespace.forget(entry.ino, 1)


def canonical(picture: dict[str, Seen]) -> dict[str, Seen]:
    """Return *picture* in order of paths, with the smallest path of each linked group."""
    smallest: dict[str, str] = {}
    for path, seen in picture.items():
        smallest[seen.same_as] = min(path, smallest.get(seen.same_as, path))
    return {
        path: seen._replace(same_as=smallest[seen.same_as] if seen.nlink > 1 else "")
        for path, seen in sorted(picture.items())
    }


def unlinked(picture: dict[str, Seen]) -> dict[str, Seen]:
    """Return *picture* as a snapshot shows it: each name for itself, folders without sizes."""
    return {path: seen._replace(nlink=0, same_as="") for path, seen in picture.items()}


def node_settings(
    folder: Path, *, checkpoint_seconds: float = 3.0, publish_after_seconds: float = _NEVER_SECONDS
) -> Settings:
    """Return the settings of a node that publishes nothing by itself unless told to."""
    return Settings(
        folder / "Libernet",
        uid=OWNER[0],
        gid=OWNER[1],
        checkpoint_seconds=checkpoint_seconds,
        publish_after_seconds=publish_after_seconds,
    )


@contextmanager
def opened_node(
    folder: Path,
    settings: Settings | None = None,
    clock: Callable[[], int] | None = None,
    outside: Outside | None = None,
) -> Iterator[tuple[Storage, LocalNode]]:
    """Open the state in *folder* and put a node on it that does not run yet.

    At the end, unless the test failed, the consistency check finds nothing wrong.
    """
    folder.mkdir(exist_ok=True)
    with storage.opened(folder) as disk:
        node = LocalNode(
            disk,
            LocalSource(disk.store),
            settings or node_settings(folder),
            outside=outside,
            clock=clock or time.time_ns,
        )
        yield disk, node
    assert_consistent(folder)


def _split(path: str) -> tuple[str, bytes]:
    folder, _, name = path.rpartition("/")
    return folder, os.fsencode(name)


def _join(folder: str, name: str) -> str:
    return "/".join(part for part in (folder, name) if part)

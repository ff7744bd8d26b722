"""Random steps, done to a node in miniature and to the plainest model alike."""

import errno
import os
import random
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import trio.testing
from hypothesis import strategies as st

from libernet.fs.namespace import OpenFile
from libernet.fs.node import LocalNode
from libernet.fs.storage import Storage
from libernet.fs.tree import RENAME_EXCHANGE, RENAME_NOREPLACE, Changes
from tests.support.caller import Caller, Seen, opened_node, unlinked
from tests.support.miniature import CHUNK_BYTES, XATTR_SPILL_BYTES
from tests.support.plain_tree import Item, PlainTree

_NAMES = ["a", "b", "c", "\udcff", "ü"]
_PICK = st.integers(0, 30)
_NAME = st.sampled_from(_NAMES)
_SIZE = st.one_of(
    st.sampled_from([1, 100, 1023, CHUNK_BYTES, CHUNK_BYTES + 1, 13_000, 30_000]),
    st.integers(1, 20_000),
)
_OFFSET = st.one_of(st.just(-1), st.sampled_from([0, 10, 5000]), st.integers(0, 25_000))
_SEED = st.integers(0, 3)
_TIME = st.integers(-(2**40), 2**62)
_XATTR = st.sampled_from([b"user.a", b"user.\xff/", b"trusted.a"])
_XATTR_SIZE = st.sampled_from([1, XATTR_SPILL_BYTES, XATTR_SPILL_BYTES + 1, CHUNK_BYTES])

STEPS = st.one_of(
    st.tuples(st.just("mkdir"), _PICK, _NAME),
    st.tuples(st.just("create"), _PICK, _NAME, st.just(0) | _SIZE, _SEED),
    st.tuples(st.just("symlink"), _PICK, _NAME, st.sampled_from(["x", "../y/ü", "\udcfe"])),
    st.tuples(st.just("write"), _PICK, _OFFSET, _SIZE, _SEED),
    st.tuples(st.just("write_more"), _PICK, _SIZE, st.integers(1, 6), _SEED),
    st.tuples(st.just("truncate"), _PICK, st.just(0) | _SIZE),
    st.tuples(st.just("read"), _PICK, _OFFSET, _SIZE),
    st.tuples(st.just("unlink"), _PICK),
    st.tuples(st.just("rmdir"), _PICK),
    st.tuples(st.just("link"), _PICK, _PICK, _NAME),
    st.tuples(
        st.just("rename"),
        _PICK,
        _PICK,
        _NAME,
        st.sampled_from([0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE]),
    ),
    st.tuples(st.just("change"), _PICK, st.integers(0, 0o7777), st.integers(0, 70_000), _TIME),
    st.tuples(st.just("set_xattr"), _PICK, _XATTR, st.just(0) | _XATTR_SIZE, _SEED),
    st.tuples(st.just("remove_xattr"), _PICK, _XATTR),
    st.tuples(st.just("open"), _PICK),
    st.tuples(st.just("close"), _PICK),
    st.tuples(st.just("write_open"), _PICK, _OFFSET, _SIZE, _SEED),
    st.tuples(st.just("read_open"), _PICK),
    st.tuples(st.just("fsync")),
    st.tuples(st.just("fsync_aside")),
    st.tuples(st.just("seal"), st.booleans()),
    st.tuples(st.just("give_way")),
    st.tuples(st.just("publish")),
    st.tuples(st.just("restart")),
)


Step = tuple[Any, ...]
"""The name of a step and what it takes."""

# One backup with a file is there from the start, so that most steps find something.
FIRST_STEPS: list[Step] = [("mkdir", 0, "a"), ("create", 1, "b", 5000, 0)]


class Play:
    """One node and its model; each step is done to both, and has the same outcome.

    State
      handles      what is open in the node, with the model's item
      history      how the tree looked after each change, the oldest first
      durable_at   index in it of the newest state that an fsync has promised to keep
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = PlainTree()
        self.handles: list[tuple[OpenFile, Item]] = []
        self.history: list[dict[str, Seen]] = [{}]
        self.durable_at = 0
        self.storage: Storage
        self.node: LocalNode
        self.caller: Caller
        self._background: trio.Nursery

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """Start the node for the body, and end it in good order."""
        clock = lambda: self.model.now  # noqa: E731 - a name for a long line's sake
        with opened_node(self.folder, clock=clock) as (self.storage, self.node):
            self.caller = Caller(self.node.namespace)
            async with self.node.running():
                async with trio.open_nursery() as self._background:
                    yield
                for file, _ in self.handles:
                    self.node.namespace.close(file)
                self.handles.clear()

    async def step(self, call: str, arguments: list[Any]) -> None:
        self.model.now += 1_000_000_007
        await getattr(self, f"do_{call}")(*arguments)

    async def do_mkdir(self, pick: int, name: str) -> None:
        path = self._new_path(pick, name)
        await self._both(
            lambda: self.model.make(path, stat.S_IFDIR | 0o755),
            self.caller.mkdir(f"backups/{path}"),
        )

    async def do_create(self, pick: int, name: str, size: int, seed: int) -> None:
        path = self._new_path(pick, name)
        is_new = await self._both(
            lambda: self.model.make(path, stat.S_IFREG | 0o644),
            self.caller.create(f"backups/{path}"),
        )
        if is_new and size:
            async with self.caller.opened(f"backups/{path}") as file:
                await self._write(file, self.model.item(path), 0, _content(seed, size))

    async def do_symlink(self, pick: int, name: str, target: str) -> None:
        path = self._new_path(pick, name)
        await self._both(
            lambda: self.model.make(path, stat.S_IFLNK | 0o777, os.fsencode(target)),
            self.caller.symlink(f"backups/{path}", target),
        )

    async def do_write(self, pick: int, offset: int, size: int, seed: int) -> None:
        if path := self._pick(pick, "file"):
            async with self.caller.opened(f"backups/{path}") as file:
                await self._write(file, self.model.item(path), offset, _content(seed, size))

    async def do_write_more(self, pick: int, size: int, times: int, seed: int) -> None:
        """Append several times through one handle, as a copying program does."""
        if path := self._pick(pick, "file"):
            item = self.model.item(path)
            async with self.caller.opened(f"backups/{path}") as file:
                for number in range(times):
                    await self._write(file, item, -1, _content(seed + number, size))

    async def do_truncate(self, pick: int, size: int) -> None:
        if path := self._pick(pick):
            await self._both(
                lambda: self.model.truncate(path, size),
                self.caller.truncate(f"backups/{path}", size),
            )

    async def do_read(self, pick: int, offset: int, size: int) -> None:
        if path := self._pick(pick, "file"):
            content = self.model.item(path).content
            offset = max(0, len(content) - size) if offset < 0 else offset
            found = await self.caller.read(f"backups/{path}", offset, size)
            assert found == content[offset : offset + size]

    async def do_unlink(self, pick: int) -> None:
        if path := self._pick(pick):
            await self._both(lambda: self.model.unlink(path), self.caller.unlink(f"backups/{path}"))

    async def do_rmdir(self, pick: int) -> None:
        if path := self._pick(pick, "folder"):
            await self._both(lambda: self.model.rmdir(path), self.caller.rmdir(f"backups/{path}"))

    async def do_link(self, pick: int, folder_pick: int, name: str) -> None:
        path, new = self._pick(pick), self._new_path(folder_pick, name)
        if path:
            await self._both(
                lambda: self.model.link(path, new),
                self.caller.link(f"backups/{path}", f"backups/{new}"),
            )

    async def do_rename(self, pick: int, folder_pick: int, name: str, flags: int) -> None:
        path, new = self._pick(pick), self._new_path(folder_pick, name)
        if path:
            await self._both(
                lambda: self.model.rename(path, new, flags),
                self.caller.rename(f"backups/{path}", f"backups/{new}", flags),
            )

    async def do_change(self, pick: int, mode: int, owner: int, time_ns: int) -> None:
        path = self._pick(pick)
        if not path:
            return
        item = self.model.item(path)
        mode = mode if not stat.S_ISLNK(item.mode) else 0o777
        changes = Changes(mode=mode, uid=owner, gid=owner + 1, mtime_ns=time_ns)
        await self.caller.change(f"backups/{path}", changes)
        item.mode = stat.S_IFMT(item.mode) | mode
        item.uid, item.gid, item.mtime_ns = owner, owner + 1, time_ns
        self._changed()

    async def do_set_xattr(self, pick: int, name: bytes, size: int, seed: int) -> None:
        if path := self._pick(pick):
            value = _content(seed, size)
            await self._both(
                lambda: self.model.set_xattr(path, name, value),
                self.caller.set_xattr(f"backups/{path}", name, value),
            )

    async def do_remove_xattr(self, pick: int, name: bytes) -> None:
        if path := self._pick(pick):
            await self._both(
                lambda: self.model.remove_xattr(path, name),
                self.caller.remove_xattr(f"backups/{path}", name),
            )

    async def do_open(self, pick: int) -> None:
        if path := self._pick(pick, "file"):
            file = await self.caller.open(f"backups/{path}")
            self.handles.append((file, self.model.item(path)))

    async def do_close(self, pick: int) -> None:
        if self.handles:
            file, _ = self.handles.pop(pick % len(self.handles))
            self.node.namespace.close(file)

    async def do_write_open(self, pick: int, offset: int, size: int, seed: int) -> None:
        if self.handles:
            file, item = self.handles[pick % len(self.handles)]
            await self._write(file, item, offset, _content(seed, size))

    async def do_read_open(self, pick: int) -> None:
        if self.handles:
            file, item = self.handles[pick % len(self.handles)]
            found = await self.node.namespace.read(file, 0, len(item.content) + 1)
            assert bytes(found) == item.content

    async def do_fsync(self) -> None:
        await self._fsync()
        # The tree itself may be dirty again: chunks sealed meanwhile took the place of log records.
        if not self._background.child_tasks:
            assert self.node.files.pending() == (0, 0)

    async def do_fsync_aside(self) -> None:
        """Begin an fsync that other steps do not wait for."""
        self._background.start_soon(self._fsync)

    async def do_seal(self, everything: bool) -> None:
        self.node.files.seal_resting(everything=everything)

    async def do_give_way(self) -> None:
        await trio.testing.wait_all_tasks_blocked(0.002)

    async def do_publish(self) -> None:
        for name, inode in list(self.node.tree.backups()):
            await self.node.publisher.publish(inode.ino)
            await self._check_snapshot(os.fsdecode(name))

    async def check(self) -> None:
        assert await self.caller.picture("backups") == self.history[-1]

    async def _check_snapshot(self, backup: str) -> None:
        latest = await self.caller.readlink(f"snapshots/{backup}/latest")
        found = await self.caller.picture(f"snapshots/{backup}/{latest}")
        shown = self.history[-1]
        expected = {
            path.removeprefix(f"{backup}/"): seen
            for path, seen in shown.items()
            if path.startswith(f"{backup}/")
        }
        assert unlinked(found) == unlinked(expected)

    def _changed(self) -> None:
        self.history.append(self.model.picture())

    async def _fsync(self) -> None:
        promised = len(self.history) - 1
        await self.node.namespace.durable()
        self.durable_at = max(self.durable_at, promised)

    async def _write(self, file: OpenFile, item: Item, offset: int, content: bytes) -> None:
        offset = len(item.content) if offset < 0 else offset
        await self.node.namespace.write(file, offset, content)
        self.model.write(item, offset, content)
        self._changed()

    async def _both(self, model_call: Callable[[], object], call: Awaitable[None]) -> bool:
        """Do something to the node and to the model, and say whether it worked for both."""
        expected = met = 0
        try:
            await call
        except OSError as exc:
            met = exc.errno
        try:
            model_call()
        except OSError as exc:
            expected = exc.errno
        assert errno.errorcode.get(met) == errno.errorcode.get(expected)
        self._changed()
        return not met

    def _pick(self, pick: int, kind: str = "") -> str:
        """Return a path of the model, '' when there is none of that kind."""
        paths = [
            path
            for path, item in self.model.walk()
            if not kind or (item.is_folder if kind == "folder" else item.is_file)
        ]
        return paths[pick % len(paths)] if paths else ""

    def _new_path(self, pick: int, name: str) -> str:
        folders = ["", *(path for path, item in self.model.walk() if item.is_folder)]
        folder = folders[pick % len(folders)]
        return f"{folder}/{name}" if folder else name


def _content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def run_through(main: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Run *main* to its end; what it raises comes out of the groups that nurseries make."""
    try:
        trio.run(main, *arguments)
    except ExceptionGroup as group:
        error: Exception = group
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error  # noqa: B904 - the group says nothing more

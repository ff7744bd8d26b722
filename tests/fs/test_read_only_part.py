"""Everything outside backups/: it answers from syntax, refuses changes, and reads what is here."""

import errno
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from libernet.blocks.errors import BlockCorrupt, BlockNotFound, LibernetError
from libernet.blocks.ids import BlockId
from libernet.fs.namespace import MOUNT_INO
from libernet.fs.node import LocalNode
from libernet.fs.storage import Storage
from libernet.fs.tree import Changes
from tests.support.caller import Caller, node_settings, opened_node

_SECONDS = 60  # longer than anything here takes on a busy machine
_ID = "ab" * 32
_KEY = "0c" * 32
_ADDRESS = f"sha256/{_ID}/aes256gcm/{_KEY}"


class Run:
    """A node that runs, with the published backup b."""

    def __init__(self, storage: Storage, node: LocalNode) -> None:
        self.storage = storage
        self.node = node
        self.caller = Caller(node.namespace)
        self.content = os.urandom(5_000_000)
        self.latest = ""

    async def fill(self) -> None:
        await self.caller.mkdir("backups/b")
        await self.caller.mkdir("backups/b/d")
        await self.caller.create("backups/b/large", self.content)
        await self.caller.create("backups/b/d/small", b"small")
        await self.caller.symlink("backups/b/link", "large")
        (inode,) = (inode for _, inode in self.node.tree.backups())
        snapshot = await self.node.publisher.publish(inode.ino)
        self.latest = f"snapshots/b/{snapshot.name}"

    def chunk_of_large(self, number: int) -> tuple[BlockId, int, int]:
        """Return the block with the chunk of that number, its start and its end in the file."""
        ino = next(
            inode.ino
            for name, inode in self.node.tree.children(self._backup(), b"", 100)
            if name == b"large"
        )
        extent = self.storage.reader.extents(ino)[number]
        assert extent.piece.chunk is not None
        return extent.piece.chunk.id, extent.offset, extent.end

    def _backup(self) -> int:
        return dict(self.node.tree.backups())[b"b"].ino


@asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[Run]:
    settings = node_settings(folder)
    with trio.fail_after(_SECONDS), opened_node(folder, settings) as (storage, node):
        async with node.running():
            run = Run(storage, node)
            await run.fill()
            yield run


async def _errno(call: Awaitable[object]) -> str:
    with pytest.raises(OSError) as caught:
        await call
    return errno.errorcode[caught.value.errno or 0]


async def test_the_mount_shows_its_five_folders(tmp_path: Path) -> None:
    names = ["backups", "bundles", "sha256", "sha384", "snapshots"]
    async with _running(tmp_path) as run:
        assert await run.caller.names("") == names
        assert await run.caller.names("", limit=1) == names
        root = await run.caller.stat("")
        assert (root.ino, stat.S_ISDIR(root.look.mode)) == (MOUNT_INO, True)


async def test_an_address_is_a_folder_by_its_syntax_alone(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        plain = f"sha256/{_ID}/plain"
        for path in ("sha256", f"sha256/{_ID}", f"sha256/{_ID}/aes256gcm", _ADDRESS, plain):
            assert stat.S_ISDIR((await run.caller.stat(path)).look.mode), path


async def test_address_folders_list_as_empty(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        for path in ("sha256", f"sha256/{_ID}", f"sha256/{_ID}/aes256gcm"):
            assert await run.caller.names(path) == [], path


_NOT_THERE = [
    "sha512",
    "sha256/x",
    "sha256/sha256",
    f"sha256/{_ID[:-1]}",
    f"sha256/{_ID}0",
    f"sha256/{_ID.upper()}",
    f"sha256/{_ID[:-1]}g",
    f"sha256/{_ID[:-1]}ä",
    f"sha256/{_ID}/aes256gcm ",
    f"sha256/{_ID}/AES256GCM",
    f"sha256/{_ID}/rot13",
    f"sha256/{_ID}/Plain",
    "sha256/plain",
    f"sha256/{_ID}/aes256gcm/{_KEY.upper()}",
    f"sha256/{_ID}/aes256gcm/{_KEY[:-2]}",
    f"sha256/{_ID}/aes256gcm/%30c{_KEY[2:]}",
    f"sha256/{_ID}/aes256gcm/{_KEY[:-1]}\n",
    "snapshots/nothing",
    "snapshots/b/nothing",
]


async def test_what_is_no_address_and_no_name_is_not_there(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        found = {path: await _errno(run.caller.stat(path)) for path in _NOT_THERE}
        assert found == dict.fromkeys(_NOT_THERE, "ENOENT")


async def test_an_address_whose_block_nobody_has_says_so_when_it_is_looked_into(
    tmp_path: Path,
) -> None:
    async with _running(tmp_path) as run:
        for address in (_ADDRESS, f"sha256/{_ID}/plain"):
            with pytest.raises(BlockNotFound):
                await run.caller.names(address)
            with pytest.raises(BlockNotFound):
                await run.caller.stat(f"{address}/name")


async def test_an_address_of_a_block_that_is_no_folder_says_so(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        ino = (await run.caller.stat("backups/b/large")).ino
        chunk = run.storage.reader.extents(ino)[0].piece.chunk
        assert chunk is not None
        with pytest.raises(LibernetError):
            await run.caller.names(str(chunk)[1:])
        wrong_key = str(chunk)[1:-1] + ("0" if str(chunk)[-1] != "0" else "1")
        with pytest.raises(BlockCorrupt):
            await run.caller.names(wrong_key)


Change = Callable[[Run, str], Awaitable[object]]

_CHANGES_INSIDE: dict[str, Change] = {
    "mkdir": lambda run, folder: run.caller.mkdir(f"{folder}/new"),
    "create": lambda run, folder: run.caller.create(f"{folder}/new"),
    "symlink": lambda run, folder: run.caller.symlink(f"{folder}/new", "x"),
    "link": lambda run, folder: run.caller.link("backups/b/large", f"{folder}/new"),
    "unlink": lambda run, folder: run.caller.unlink(f"{folder}/large"),
    "rmdir": lambda run, folder: run.caller.rmdir(f"{folder}/d"),
    "move in": lambda run, folder: run.caller.rename("backups/b/large", f"{folder}/new"),
    "move out": lambda run, folder: run.caller.rename(f"{folder}/large", "backups/b/new"),
    "change": lambda run, folder: run.caller.change(folder, Changes(mode=0o700)),
}


async def test_nothing_outside_backups_can_be_changed(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        folders = [
            "",
            "snapshots",
            "snapshots/b",
            run.latest,
            f"{run.latest}/d",
            "sha256",
            "sha384",
        ]
        met = {
            (folder, name): await _errno(change(run, folder))
            for folder in folders
            for name, change in _CHANGES_INSIDE.items()
        }
        assert met == dict.fromkeys(met, "EROFS")


async def test_no_file_outside_backups_can_be_written(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        path = f"{run.latest}/large"
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
            assert await _errno(run.caller.open(path, flags)) == "EROFS"
        async with run.caller.opened(path, os.O_RDONLY) as file:
            assert await _errno(run.node.namespace.write(file, 0, b"x")) == "EROFS"
        assert await _errno(run.caller.truncate(path, 0)) == "EROFS"
        assert await run.caller.read(path) == run.content


async def test_directly_in_backups_there_are_only_folders(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        refused = {
            "create": run.caller.create("backups/f"),
            "symlink": run.caller.symlink("backups/l", "x"),
            "special": run.caller.make("backups/p", stat.S_IFIFO | 0o644),
            "link": run.caller.link("backups/b/large", "backups/f"),
            "rename": run.caller.rename("backups/b/large", "backups/f"),
        }
        met = {name: await _errno(call) for name, call in refused.items()}
        assert met == dict.fromkeys(refused, "EPERM")
        await run.caller.rename("backups/b/d", "backups/d")
        assert await run.caller.names("backups") == ["b", "d"]


async def test_files_move_between_backups_but_are_not_linked(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/c")
        assert await _errno(run.caller.link("backups/b/large", "backups/c/large")) == "EXDEV"
        snapshot = f"{run.latest}/large"
        assert await _errno(run.caller.link(snapshot, "backups/c/large")) == "EXDEV"
        await run.caller.rename("backups/b/large", "backups/c/large")
        assert await run.caller.read("backups/c/large") == run.content


async def test_a_file_that_moved_out_of_a_removed_folder_can_be_linked(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.rename("backups/b/d/small", "backups/b/small")
        await run.caller.rmdir("backups/b/d")
        await run.caller.link("backups/b/small", "backups/b/again")
        assert await run.caller.read("backups/b/again") == b"small"


@pytest.mark.announces("is gone$")
@pytest.mark.parametrize("path", ["backups/b/large", "LATEST/large"])
async def test_a_missing_block_spoils_its_own_range_and_no_other(tmp_path: Path, path: str) -> None:
    async with _running(tmp_path) as run:
        path = path.replace("LATEST", run.latest)
        block_id, start, end = run.chunk_of_large(2)
        block = run.storage.store.get(block_id)
        (file,) = tmp_path.glob(f"store/blocks/*/{block_id}")
        file.unlink()
        assert await run.caller.read(path, 0, start) == run.content[:start]
        assert await run.caller.read(path, end) == run.content[end:]
        for offset, size in [(start, 1), (end - 1, 1), (start - 1, 2), (end - 1, 2), (0, end)]:
            with pytest.raises(BlockNotFound):
                await run.caller.read(path, offset, size)
        run.storage.store.put(block_id, block)
        assert await run.caller.read(path) == run.content


@pytest.mark.announces("is damaged")
async def test_a_damaged_block_is_an_error_until_it_is_whole_again(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        block_id, start, end = run.chunk_of_large(0)
        block = run.storage.store.get(block_id)
        (file,) = tmp_path.glob(f"store/blocks/*/{block_id}")
        file.write_bytes(bytes(len(block)))
        with pytest.raises(BlockCorrupt):
            await run.caller.read("backups/b/large", start, end - start)
        with pytest.raises(BlockNotFound):
            await run.caller.read("backups/b/large", start, end - start)
        run.storage.store.put(block_id, block)
        assert await run.caller.read("backups/b/large") == run.content


async def test_numbers_are_given_back(tmp_path: Path) -> None:
    """After all was forgotten, a number means nothing any more, and a name gets another one."""
    async with _running(tmp_path) as run:
        ino = (await run.caller.stat(f"{run.latest}/d/small")).ino
        assert await _errno(_stat(run, ino)) == "ESTALE"
        async with run.caller.at(f"{run.latest}/d") as one, run.caller.at(f"{run.latest}/d") as two:
            assert one == two


async def test_each_of_many_folders_that_are_equal_has_numbers_of_its_own(tmp_path: Path) -> None:
    async with _running(tmp_path) as run, AsyncExitStack() as known:
        paths = [f"{number}/{name}" for number in range(100) for name in ("file", "link")]
        for path in paths:
            folder, name = path.split("/")
            if name == "file":
                await run.caller.mkdir(f"backups/b/{folder}")
                await run.caller.create(f"backups/b/{path}", b"content")
            else:
                await run.caller.symlink(f"backups/b/{path}", "target")
        shown = f"snapshots/b/{(await run.node.publisher.publish(run._backup())).name}"
        inos = [await known.enter_async_context(run.caller.at(f"{shown}/{p}")) for p in paths]
        assert len({*inos}) == len(paths)
        for path, ino in zip(paths, inos, strict=True):
            assert await run.node.namespace.stat(ino) is not None
            if path.endswith("link"):
                assert await run.node.namespace.target(ino) == b"target"
            else:
                handle = await run.node.namespace.open(ino, os.O_RDONLY)
                assert bytes(await run.node.namespace.read(handle, 0, 100)) == b"content"
                run.node.namespace.close(handle)


async def _stat(run: Run, ino: int) -> None:
    await run.node.namespace.stat(ino)

"""Files that have lost their names and are still open, or known to the kernel."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio

from tests.support.caller import Caller, opened_node, unlinked

_SECONDS = 60  # longer than anything here takes on a busy machine


@pytest.mark.parametrize("size", [0, 700, 5_000_000])
@pytest.mark.parametrize("is_committed", [False, True])
async def test_an_open_file_without_a_name_is_read_and_written_until_it_is_closed(
    tmp_path: Path, size: int, is_committed: bool
) -> None:
    content = os.urandom(size)
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        async with node.running():
            caller = Caller(node.namespace)
            await caller.mkdir("backups/b")
            await caller.create("backups/b/f", content)
            if is_committed:
                node.files.seal_resting(everything=True)
                await node.namespace.durable()
            file = await caller.open("backups/b/f")
            await caller.unlink("backups/b/f")
            for _ in range(2):
                assert await node.namespace.read(file, 0, size) == content
                await node.namespace.write(file, size, b"and more")
                assert await node.namespace.read(file, size, 100) == b"and more"
                await node.namespace.durable()
                node.files.seal_resting(everything=True)
            assert await caller.names("backups/b") == []
            node.namespace.close(file)
            await node.namespace.durable()
            assert node.files.pending() == (0, 0)
            assert _rows(storage.journal.path) == (2, 0)


async def test_its_name_can_be_used_again_at_once(tmp_path: Path) -> None:
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (_, node):
        async with node.running():
            caller = Caller(node.namespace)
            await caller.mkdir("backups/b")
            await caller.create("backups/b/f", b"first")
            first = await caller.open("backups/b/f")
            await caller.unlink("backups/b/f")
            await caller.create("backups/b/f", b"second")
            assert await node.namespace.read(first, 0, 10) == b"first"
            assert await caller.read("backups/b/f") == b"second"
            await caller.create("backups/b/g", b"third")
            second = await caller.open("backups/b/f")
            await caller.rename("backups/b/g", "backups/b/f")
            assert await node.namespace.read(second, 0, 10) == b"second"
            assert await caller.read("backups/b/f") == b"third"
            node.namespace.close(first)
            node.namespace.close(second)


async def test_it_is_gone_after_a_restart_and_its_space_is_free(tmp_path: Path) -> None:
    with trio.fail_after(_SECONDS):
        with opened_node(tmp_path) as (storage, node):
            async with node.running():
                caller = Caller(node.namespace)
                await caller.mkdir("backups/b")
                await caller.create("backups/b/f", os.urandom(50_000))
                await caller.open("backups/b/f")
                await caller.unlink("backups/b/f")
                await node.namespace.durable()
                assert storage.journal.needed_segments()
        with opened_node(tmp_path) as (storage, node):
            assert _rows(storage.journal.path) == (2, 0)
            async with node.running():
                caller = Caller(node.namespace)
                assert await caller.picture("backups/b") == {}
                await caller.mkdir("backups/b/d")
                await node.namespace.durable()
            assert len(list((tmp_path / "log").iterdir())) == 1


async def test_it_is_in_no_snapshot(tmp_path: Path) -> None:
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (_, node):
        async with node.running():
            caller = Caller(node.namespace)
            await caller.mkdir("backups/b")
            await caller.create("backups/b/f", b"content")
            await caller.create("backups/b/kept", b"kept")
            file = await caller.open("backups/b/f")
            await caller.unlink("backups/b/f")
            (inode,) = (inode for _, inode in node.tree.backups())
            snapshot = await node.publisher.publish(inode.ino)
            shown = await caller.published("b")
            assert unlinked(shown) == unlinked(await caller.picture("backups/b"))
            await node.namespace.write(file, 0, b"changed")
            assert await node.publisher.publish(inode.ino) == snapshot
            node.namespace.close(file)


async def test_a_folder_that_is_known_and_removed_takes_nothing_in(tmp_path: Path) -> None:
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        async with node.running():
            caller = Caller(node.namespace)
            await caller.mkdir("backups/b")
            await caller.mkdir("backups/b/d")
            async with caller.at("backups/b/d") as ino:
                await caller.rmdir("backups/b/d")
                assert (await node.namespace.stat(ino)).look.nlink == 0
                assert await node.namespace.children(ino, b"", 10) == []
                await caller.mkdir("backups/b/e")
                async with caller.at("backups/b") as parent:
                    with pytest.raises(FileNotFoundError):
                        node.namespace.rename((parent, b"e"), (ino, b"e"), 0)
                await node.namespace.durable()
            await node.namespace.durable()
            assert _rows(storage.journal.path) == (3, 0)


def _rows(journal: Path) -> tuple[int, int]:
    """Return how many inodes, `backups/` among them, and how many extents are committed."""
    with closing(sqlite3.connect(journal)) as connection:
        (inodes,) = connection.execute("SELECT count(*) FROM inode").fetchone()
        (extents,) = connection.execute("SELECT count(*) FROM extent").fetchone()
    return inodes, extents

"""Files that are being sealed while a checkpoint commits them, or while they go away."""

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from libernet.fs.node import LocalNode
from libernet.fs.storage import Storage
from tests.support.caller import Caller, opened_node
from tests.support.miniature import small_sizes

_SECONDS = 30  # longer than anything here takes on a busy machine


class Gate:
    """A step that is done only once the gate is open; `reached` when somebody stands before it."""

    def __init__(self, owner: object, step: str) -> None:
        self._step: Callable[..., object] = getattr(owner, step)
        self._open = threading.Event()
        self._reached = threading.Event()
        setattr(owner, step, self)

    def __call__(self, *arguments: object) -> object:
        self._reached.set()
        assert self._open.wait(_SECONDS)
        return self._step(*arguments)

    def open(self) -> None:
        self._open.set()

    async def reached(self) -> None:
        assert await trio.to_thread.run_sync(self._reached.wait, _SECONDS)


async def _is_sealed(storage: Storage, node: LocalNode) -> bool:
    """Return whether the next checkpoint leaves nothing unsealed."""
    await trio.testing.wait_all_tasks_blocked(0.05)
    await Caller(node.namespace).mkdir("backups/another")
    await node.namespace.durable()
    return storage.reader.unsealed_files() == []


async def test_a_file_that_is_sealed_while_a_checkpoint_commits_it_is_sealed_for_good(
    tmp_path: Path,
) -> None:
    content = os.urandom(3000)
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        async with node.running(), trio.open_nursery() as nursery:
            caller = Caller(node.namespace)
            await caller.mkdir("backups/b")
            await caller.create("backups/b/f", content)
            apply, put = Gate(storage.journal, "apply"), Gate(storage.store, "put")
            nursery.start_soon(node.namespace.durable)
            await apply.reached()
            node.files.seal_resting()
            await put.reached()
            apply.open()
            while node.checkpointer.is_dirty:
                await trio.testing.wait_all_tasks_blocked(0.01)
            put.open()
            assert await _is_sealed(storage, node)
            assert await caller.read("backups/b/f") == content


@pytest.mark.parametrize("size", [3000, 3_000_000])
async def test_what_is_written_while_it_is_sealed_is_not_lost(tmp_path: Path, size: int) -> None:
    content = bytearray(os.urandom(size))
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        async with node.running():
            caller = Caller(node.namespace)
            await caller.mkdir("backups/b")
            await caller.create("backups/b/f", bytes(content))
            put = Gate(storage.store, "put")
            node.files.seal_resting()
            await put.reached()
            await caller.write("backups/b/f", 1000, b"changed")
            content[1000:1007] = b"changed"
            put.open()
            await node.namespace.durable()
            assert await caller.read("backups/b/f") == content
            node.files.seal_resting()
            assert await _is_sealed(storage, node)
            assert await caller.read("backups/b/f") == content


async def test_what_rests_of_a_file_that_is_written_all_the_time_is_sealed(
    tmp_path: Path,
) -> None:
    content = bytearray(os.urandom(6_000_000))
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        async with node.running():
            caller = Caller(node.namespace)
            await caller.mkdir("backups/b")
            await caller.create("backups/b/f", bytes(content))
            await node.namespace.durable()
            put = Gate(storage.store, "put")
            for offset in range(0, len(content), 70_000):  # nothing of it is sealed any more
                content[offset : offset + 4] = b"then"
                await caller.write("backups/b/f", offset, b"then")
            node.files.seal_resting()
            await put.reached()
            content[3_000_000:3_000_003] = b"now"
            await caller.write("backups/b/f", 3_000_000, b"now")
            put.open()
            await node.namespace.durable()
            async with caller.at("backups/b/f") as ino:
                extents = storage.reader.extents(ino)
            logged = [each for each in extents if each.piece.log is not None]
            assert 0 < sum(each.length for each in logged) <= 1024 * 1024
            assert all(abs(each.offset - 3_000_000) <= 1024 * 1024 for each in logged)
            assert await caller.read("backups/b/f") == content
            node.files.seal_resting()
            assert await _is_sealed(storage, node)
            assert await caller.read("backups/b/f") == content


async def test_the_data_log_stays_small_under_a_file_that_is_written_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libernet.fs.datalog._SEGMENT_BYTES", 100_000)
    content = bytearray(os.urandom(3_000_000))
    places = random.Random(7)
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (_, node):
        async with node.running():
            caller = Caller(node.namespace)
            await caller.mkdir("backups/b")
            await caller.create("backups/b/f", bytes(content))
            async with caller.at("backups/b/f") as ino:
                file = await node.namespace.open(ino, os.O_RDWR)
                for _ in range(1500):
                    offset = places.randrange(len(content) // 4096) * 4096
                    content[offset : offset + 4096] = os.urandom(4096)
                    await node.namespace.write(file, offset, bytes(content[offset : offset + 4096]))
                    await node.namespace.durable()
                    assert len(list(tmp_path.glob("log/*"))) <= 14
                node.namespace.close(file)
            assert await caller.read("backups/b/f") == content


async def test_a_hole_that_is_cut_off_while_it_is_sealed_stays_off(tmp_path: Path) -> None:
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        async with node.running():
            caller = Caller(node.namespace)
            await caller.mkdir("backups/b")
            await caller.create("backups/b/f", b"front")
            await caller.truncate("backups/b/f", 1000)
            put = Gate(storage.store, "put")
            node.files.seal_resting()
            await put.reached()
            await caller.truncate("backups/b/f", 500)
            put.open()
            await trio.testing.wait_all_tasks_blocked(0.05)
            await caller.write("backups/b/f", 10, b"x")
            inode = dict(node.tree.backups())[b"b"]
            await node.publisher.publish(inode.ino)
            assert (await caller.published("b"))["f"].content == await caller.read("backups/b/f")
            assert len(await caller.read("backups/b/f")) == 500


async def test_a_file_that_is_removed_while_it_is_sealed_is_gone(tmp_path: Path) -> None:
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        async with node.running():
            caller = Caller(node.namespace)
            await caller.mkdir("backups/b")
            await caller.create("backups/b/f", b"content")
            put = Gate(storage.store, "put")
            node.files.seal_resting()
            await put.reached()
            await caller.unlink("backups/b/f")
            put.open()
            assert await _is_sealed(storage, node)
            assert await caller.names("backups/b") == []
            assert node.files.pending() == (0, 0)


async def test_the_data_log_gives_its_space_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libernet.fs.datalog._SEGMENT_BYTES", 100_000)
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (_, node):
        async with node.running():
            caller = Caller(node.namespace)
            await caller.mkdir("backups/b")
            for number in range(20):
                await caller.create(f"backups/b/{number}", os.urandom(30_000))
                await node.namespace.durable()
            assert len(list(tmp_path.glob("log/*"))) > 3
            node.files.seal_resting()
            await trio.testing.wait_all_tasks_blocked(0.05)
            await node.namespace.durable()
            await caller.mkdir("backups/another")
            await node.namespace.durable()
            assert len(list(tmp_path.glob("log/*"))) == 1


async def test_a_tail_that_is_sealed_while_the_chunk_before_it_is_does_not_stay_in_the_log(
    tmp_path: Path,
) -> None:
    # The chunk before a tail may be short, and is then sealed with it once more.
    with small_sizes(), trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        async with node.running():
            caller = Caller(node.namespace)
            await caller.mkdir("backups/b")
            for number in range(20):
                await caller.create(f"backups/b/{number}", os.urandom(50_000))
            for _ in range(2):
                await node.files.seal_all()
                await node.namespace.durable()
            assert storage.reader.unsealed_files() == []

"""Checkpoints that fail: the caller is told, nothing is lost, and a later one succeeds."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from libernet.blocks.errors import BlockNotFound, StoreError, StoreFull
from libernet.fs import checkpoint, datalog
from libernet.fs.node import LocalNode
from libernet.fs.storage import Storage
from tests.support.caller import Caller, Seen, opened_node

pytestmark = pytest.mark.announces("checkpoint .* failed", "sealing .* failed")

_SECONDS = 30  # longer than anything here takes on a busy machine


def _sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("an error of SQLite")
    error.sqlite_errorcode = code
    return error


_FAULTS = [
    ("log", "append", OSError(errno.ENOSPC, "full"), errno.ENOSPC),
    ("log", "append", OSError(errno.EIO, "broken"), errno.EIO),
    ("log", "sync", OSError(errno.ENOSPC, "full"), errno.ENOSPC),
    ("log", "sync", OSError(errno.EIO, "broken"), errno.EIO),
    ("store", "flush", StoreFull("full"), errno.ENOSPC),
    ("store", "flush", StoreError("broken"), errno.EIO),
    ("journal", "apply", _sqlite_error(sqlite3.SQLITE_FULL), errno.ENOSPC),
    ("journal", "apply", _sqlite_error(sqlite3.SQLITE_IOERR), errno.EIO),
]
_FULL = [fault for fault in _FAULTS if fault[3] == errno.ENOSPC]


class Fault:
    """Something that fails instead of being done, until it is mended.

    State: met, how often it was tried meanwhile.
    """

    def __init__(self, step: Callable[..., object], error: Exception) -> None:
        self._step = step
        self._error: Exception | None = error
        self.met = 0

    def __call__(self, *arguments: object) -> object:
        if self._error is None:
            return self._step(*arguments)
        self.met += 1
        raise self._error

    def mend(self) -> None:
        self._error = None


@pytest.fixture(autouse=True)
def retry_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_RETRY_SECONDS", 0.02)


async def _picture(node: LocalNode) -> dict[str, Seen]:
    return await Caller(node.namespace).picture("backups")


async def _recovered(state: Path, copy: Path) -> dict[str, Seen]:
    """Return what a node finds that starts after this one was killed now."""
    shutil.copytree(state, copy)
    with opened_node(copy) as (_, node):
        return await _picture(node)


async def _fill(node: LocalNode) -> Caller:
    caller = Caller(node.namespace)
    await caller.mkdir("backups/b")
    await caller.create("backups/b/old", os.urandom(5000))
    await node.namespace.durable()
    await caller.write("backups/b/old", 100, b"changed")
    await caller.create("backups/b/new", os.urandom(3000))
    return caller


def _broken(storage: Storage, part: str, step: str, error: Exception) -> Fault:
    owner = getattr(storage, part)
    fault = Fault(getattr(owner, step), error)
    setattr(owner, step, fault)
    return fault


@pytest.mark.parametrize(("part", "step", "error", "code"), _FAULTS)
async def test_a_failed_checkpoint_is_told_and_made_up_for_later(
    tmp_path: Path, part: str, step: str, error: Exception, code: int
) -> None:
    state = tmp_path / "state"
    with trio.fail_after(_SECONDS), opened_node(state) as (storage, node):
        async with node.running():
            caller = await _fill(node)
            fault = _broken(storage, part, step, error)
            for _ in range(3):
                with pytest.raises(OSError) as caught:
                    await node.namespace.durable()
                assert caught.value.errno == code
            assert fault.met >= 3
            fault.mend()
            await node.namespace.durable()
            expected = await caller.picture("backups")
            assert await _recovered(state, tmp_path / "copy") == expected


@pytest.mark.parametrize(("part", "step", "error", "code"), _FAULTS)
async def test_what_is_done_meanwhile_is_not_lost_either(
    tmp_path: Path, part: str, step: str, error: Exception, code: int
) -> None:
    state = tmp_path / "state"
    with trio.fail_after(_SECONDS), opened_node(state) as (storage, node):
        async with node.running():
            caller = await _fill(node)
            before = await caller.read("backups/b/old")
            fault = _broken(storage, part, step, error)
            with pytest.raises(OSError):
                await node.namespace.durable()
            await caller.rename("backups/b/old", "backups/b/moved")
            await caller.unlink("backups/b/new")
            await caller.truncate("backups/b/moved", 1000)
            assert await caller.read("backups/b/moved") == before[:1000]
            expected = await caller.picture("backups")
            fault.mend()
            await node.namespace.durable()
            assert await _recovered(state, tmp_path / "copy") == expected


@pytest.mark.parametrize(("part", "step", "error", "code"), _FULL)
async def test_writers_hear_of_a_full_disk_until_there_is_room(
    tmp_path: Path, part: str, step: str, error: Exception, code: int
) -> None:
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        async with node.running():
            caller = await _fill(node)
            fault = _broken(storage, part, step, error)
            with pytest.raises(OSError):
                await node.namespace.durable()
            for refused in (
                caller.write("backups/b/old", 0, b"more"),
                caller.create("backups/b/another"),
                caller.mkdir("backups/c"),
            ):
                with pytest.raises(OSError) as caught:
                    await refused
                assert caught.value.errno == errno.ENOSPC
            fault.mend()
            await node.namespace.durable()
            await caller.write("backups/b/old", 0, b"more")
            assert (await caller.read("backups/b/old"))[:4] == b"more"


async def test_a_journal_that_really_is_full_is_made_up_for_later(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with trio.fail_after(_SECONDS), opened_node(state) as (storage, node):
        connection = storage.journal._connection
        async with node.running():
            caller = await _fill(node)
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
            for number in range(300):
                await caller.create(f"backups/b/{number} {'x' * 200}")
            with pytest.raises(OSError) as caught:
                await node.namespace.durable()
            assert caught.value.errno == errno.ENOSPC
            assert len(await caller.names("backups/b")) == 302
            connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
            await node.namespace.durable()
            expected = await caller.picture("backups")
            assert await _recovered(state, tmp_path / "copy") == expected


async def test_a_segment_of_the_log_that_could_not_be_begun_is_begun_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datalog, "_SEGMENT_BYTES", 1000)
    state = tmp_path / "state"
    with trio.fail_after(_SECONDS), opened_node(state) as (_, node):
        async with node.running():
            caller = await _fill(node)
            fault = Fault(datalog.sync_folder, OSError(errno.EIO, "broken"))
            monkeypatch.setattr(datalog, "sync_folder", fault)
            for _ in range(2):
                with pytest.raises(OSError) as caught:
                    await node.namespace.durable()
                assert caught.value.errno == errno.EIO
            fault.mend()
            await node.namespace.durable()
            expected = await caller.picture("backups")
            assert await _recovered(state, tmp_path / "copy") == expected


async def test_all_who_wait_for_a_failing_checkpoint_are_told(tmp_path: Path) -> None:
    told: list[int | None] = []

    async def fsync(node: LocalNode) -> None:
        try:
            await node.namespace.durable()
        except OSError as exc:
            told.append(exc.errno)

    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        async with node.running():
            await _fill(node)
            fault = _broken(storage, "log", "sync", OSError(errno.EIO, "broken"))
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(fsync, node)
            fault.mend()
    assert told == [errno.EIO] * 5


async def test_an_fsync_that_comes_during_a_checkpoint_returns_after_it(tmp_path: Path) -> None:
    """Nothing was changed since the checkpoint began, and nothing will be."""
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        apply = storage.journal.apply

        async with node.running():
            await _fill(node)
            began, go_on = trio.Event(), trio.Event()

            def slow_apply(*arguments: object) -> None:
                trio.from_thread.run_sync(began.set)
                trio.from_thread.run(go_on.wait)
                apply(*arguments)  # type: ignore[arg-type]

            storage.journal.apply = slow_apply  # type: ignore[method-assign]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.namespace.durable)
                await began.wait()
                nursery.start_soon(node.namespace.durable)
                await trio.testing.wait_all_tasks_blocked(0.01)
                go_on.set()
            storage.journal.apply = apply  # type: ignore[method-assign]
            assert not node.checkpointer.is_dirty


@pytest.mark.parametrize("error", [StoreFull("full"), StoreError("broken"), OSError(5, "broken")])
async def test_what_could_not_be_sealed_is_kept_and_sealed_later(
    tmp_path: Path, error: Exception
) -> None:
    state = tmp_path / "state"
    with trio.fail_after(_SECONDS), opened_node(state) as (storage, node):
        async with node.running():
            caller = await _fill(node)
            large = os.urandom(5_000_000)
            fault = _broken(storage, "store", "put", error)
            await caller.create("backups/b/large", large)
            node.files.seal_resting(everything=True)
            await node.namespace.durable()
            assert fault.met
            expected = await caller.picture("backups")
            assert expected["b/large"].content == large
            assert await _recovered(state, tmp_path / "unsealed") == expected
            assert storage.reader.unsealed_files()
            fault.mend()
            node.files.seal_resting(everything=True)
            await caller.mkdir("backups/c")
            await node.namespace.durable()
            assert storage.reader.unsealed_files() == []
            expected = await caller.picture("backups")
            assert await _recovered(state, tmp_path / "sealed") == expected


async def test_writing_goes_on_after_sealing_met_a_full_disk(tmp_path: Path) -> None:
    """All is durable in the data log, so no checkpoint comes that could tell of room."""
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        async with node.running():
            caller = await _fill(node)
            await node.namespace.durable()
            fault = _broken(storage, "store", "put", StoreFull("full"))
            node.files.seal_resting(everything=True)
            while not fault.met:
                await trio.testing.wait_all_tasks_blocked(0.01)
            fault.mend()
            await caller.write("backups/b/old", 0, b"more")
            assert (await caller.read("backups/b/old"))[:4] == b"more"


async def test_a_node_ends_with_everything_durable_once_there_is_room(tmp_path: Path) -> None:
    with trio.fail_after(_SECONDS):
        with opened_node(tmp_path) as (storage, node):
            async with node.running():
                caller = await _fill(node)
                fault = _broken(storage, "store", "flush", StoreFull("full"))
                with pytest.raises(OSError):
                    await node.namespace.durable()
                expected = await caller.picture("backups")
                trio.lowlevel.current_trio_token().run_sync_soon(fault.mend)
        with opened_node(tmp_path) as (_, node):
            assert await _picture(node) == expected


async def test_a_chunk_that_is_lost_ends_no_checkpoint(tmp_path: Path) -> None:
    """Sealing has to read it, since the file was written to."""
    with trio.fail_after(_SECONDS), opened_node(tmp_path) as (storage, node):
        async with node.running():
            caller = await _fill(node)
            node.files.seal_resting(everything=True)
            await node.namespace.durable()
            fault = _broken(storage, "store", "get", BlockNotFound("gone"))
            await caller.write("backups/b/old", 10, b"once more")
            node.files.seal_resting(everything=True)
            await node.namespace.durable()
            assert fault.met
            fault.mend()
            assert (await caller.read("backups/b/old"))[10:19] == b"once more"

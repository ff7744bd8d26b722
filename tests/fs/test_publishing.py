"""Publishing: what a snapshot shows, when there is one, and what a change costs."""

import errno
import os
import random
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from libernet.blocks.errors import StoreFull
from libernet.blocks.reference import Reference
from libernet.fs import publisher
from libernet.fs.journal_reader import Snapshot
from libernet.fs.node import LocalNode
from libernet.fs.storage import Storage
from libernet.fs.tree import Changes, NewInode
from tests.support.caller import Caller, Seen, node_settings, opened_node, unlinked

_SECONDS = 300  # longer than anything here takes on a busy machine
_MIB = 1024 * 1024


class Clock:
    """The wall clock of a node, which moves when a test says so."""

    def __init__(self) -> None:
        self.now_ns = 1_800_000_000 * 10**9

    def __call__(self) -> int:
        return self.now_ns


class Run:
    """A node that runs, and what tests do with it."""

    def __init__(self, storage: Storage, node: LocalNode, clock: Clock) -> None:
        self.storage = storage
        self.node = node
        self.clock = clock
        self.caller = Caller(node.namespace)

    def backup(self, name: str) -> int:
        return dict(self.node.tree.backups())[os.fsencode(name)].ino

    async def publish(self, name: str) -> Snapshot:
        return await self.node.publisher.publish(self.backup(name))

    async def picture(self, backup: str) -> dict[str, Seen]:
        """Return how a backup looks, the way that a snapshot of it must."""
        return unlinked(await self.caller.picture(f"backups/{backup}"))

    async def published(self, backup: str) -> dict[str, Seen]:
        return unlinked(await self.caller.published(backup))

    async def published_content(self, backup: str, path: str) -> bytes:
        latest = await self.caller.readlink(f"snapshots/{backup}/latest")
        return await self.caller.read(f"snapshots/{backup}/{latest}/{path}")

    def blocks(self) -> int:
        self.storage.store.flush()
        return self.storage.store.totals().blocks


@asynccontextmanager
async def _running(folder: Path, *, publish_after_seconds: float = 86_400) -> AsyncIterator[Run]:
    clock = Clock()
    settings = node_settings(
        folder, publish_after_seconds=publish_after_seconds, checkpoint_seconds=0.05
    )
    with trio.fail_after(_SECONDS), opened_node(folder, settings, clock) as (storage, node):
        async with node.running():
            yield Run(storage, node, clock)


async def _until(condition: Callable[[], object]) -> None:
    """Return when *condition* is met, at most some 20 ms later."""
    while not condition():  # noqa: ASYNC110 - what it waits for tells nobody
        await trio.sleep(0.02)


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "_RETRY_SECONDS", 0.05)


async def test_a_snapshot_shows_everything_that_a_backup_holds(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        caller = run.caller
        await caller.mkdir("backups/b", 0o2750)
        await caller.mkdir("backups/b/empty", 0o1777)
        await caller.create("backups/b/nothing", mode=0o4755)
        await caller.create("backups/b/small", b"small", mode=0o600)
        await caller.create("backups/b/large", os.urandom(5 * _MIB))
        await caller.symlink("backups/b/link", "../somewhere/\udcff")
        await caller.make("backups/b/fifo", stat.S_IFIFO | 0o640)
        await caller.make("backups/b/device", stat.S_IFCHR | 0o600, rdev=os.makedev(1, 3))
        await caller.link("backups/b/small", "backups/b/empty/again")
        await caller.create("backups/b/ name\n\udc80ü", b"x")
        await caller.change("backups/b/small", Changes(uid=7, gid=8, mtime_ns=-1))
        await caller.change("backups/b/nothing", Changes(mtime_ns=2**62 + 1))
        await run.publish("b")
        assert await run.published("b") == await run.picture("b")
        latest = await caller.readlink("snapshots/b/latest")
        device = await caller.stat(f"snapshots/b/{latest}/device")
        assert device.look.rdev == os.makedev(1, 3)


async def test_holes_of_any_size_are_published(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        caller = run.caller
        await caller.mkdir("backups/b")
        for number, places in enumerate(
            [[0], [10 * _MIB], [0, 3 * _MIB], [100, 70_000, 9 * _MIB], [2 * _MIB - 1], []]
        ):
            path = f"backups/b/{number}"
            await caller.create(path)
            for place in places:
                await caller.write(path, place, os.urandom(5000))
            await caller.truncate(path, 12 * _MIB + number)
        await run.publish("b")
        assert await run.published("b") == await run.picture("b")


async def test_a_sparse_terabyte_is_published_at_once(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        await run.caller.create("backups/b/sparse")
        await run.caller.truncate("backups/b/sparse", 2**40)
        await run.caller.write("backups/b/sparse", 2**39, b"in the middle")
        await run.publish("b")
        latest = await run.caller.readlink("snapshots/b/latest")
        path = f"snapshots/b/{latest}/sparse"
        for shown in (path, "backups/b/sparse"):
            found = await run.caller.stat(shown)
            assert (found.look.size, found.stored_bytes) == (2**40, len(b"in the middle"))
        assert await run.caller.read(path, 2**39 - 5, 20) == bytes(5) + b"in the middle" + bytes(2)


async def test_an_unchanged_backup_is_not_published_again(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        await run.caller.create("backups/b/f", b"content")
        first = await run.publish("b")
        assert await run.publish("b") == first
        assert await run.caller.names("snapshots/b") == [first.name, "latest"]


async def test_a_backup_that_became_what_it_was_gets_the_same_reference(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        await run.caller.create("backups/b/f", b"content")
        first = await run.publish("b")
        await run.caller.create("backups/b/g")
        second = await run.publish("b")
        await run.caller.unlink("backups/b/g")
        third = await run.publish("b")
        assert third.reference == first.reference != second.reference
        names = [first.name, second.name, third.name, "latest"]
        assert await run.caller.names("snapshots/b") == names


async def test_one_changed_file_of_many_re_stores_few_blocks(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        for folder in range(40):
            await run.caller.mkdir(f"backups/b/{folder}")
            for file in range(40):
                content = random.Random(folder * 100 + file).randbytes(300)
                await run.caller.create(f"backups/b/{folder}/{file}", content)
        await run.publish("b")
        before = run.blocks()
        await run.caller.write("backups/b/17/23", 0, b"changed")
        await run.publish("b")
        assert run.blocks() - before <= 4  # the chunk, its folder, and what is above that
        assert await run.published("b") == await run.picture("b")


async def test_renaming_a_wide_folder_re_stores_none_of_it(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        await run.caller.mkdir("backups/b/wide")
        for file in range(2000):
            await run.caller.create(f"backups/b/wide/{file}")
        await run.publish("b")
        before = run.blocks()
        await run.caller.rename("backups/b/wide", "backups/b/renamed")
        await run.publish("b")
        assert run.blocks() - before == 1
        assert await run.published("b") == await run.picture("b")


async def test_an_insertion_at_the_front_of_a_large_file_re_stores_little(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        content = random.Random(1).randbytes(20 * _MIB)
        await run.caller.mkdir("backups/b")
        await run.caller.create("backups/b/f", content)
        await run.publish("b")
        before = run.blocks()
        await run.caller.create("backups/b/inserted", b"at the front" + content)
        await run.publish("b")
        assert run.blocks() - before <= 5
        assert await run.caller.read("backups/b/inserted") == b"at the front" + content


async def test_a_folder_with_30000_entries_is_published(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        await run.caller.mkdir("backups/b/wide")
        async with run.caller.at("backups/b/wide") as wide:
            for number in range(30_000):
                _make_file(run, wide, b"%05d" % number)
        await run.publish("b")
        latest = await run.caller.readlink("snapshots/b/latest")
        path = f"snapshots/b/{latest}/wide"
        expected = [f"{number:05}" for number in range(30_000)]
        assert await run.caller.names(path, limit=1000) == expected
        assert (await run.caller.stat(f"{path}/12345")).look.mtime_ns == run.clock.now_ns
        before = run.blocks()
        await run.caller.write("backups/b/wide/12345", 0, b"changed")
        await run.publish("b")
        assert run.blocks() - before <= 5
        assert (await run.published_content("b", "wide/12345")) == b"changed"


async def test_300_folders_inside_each_other_are_published(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        path = "backups/b"
        await run.caller.mkdir(path)
        for _ in range(300):
            path += "/d"
            await run.caller.mkdir(path)
        await run.caller.create(f"{path}/deep", b"deep")
        await run.publish("b")
        assert await run.published("b") == await run.picture("b")
        await run.caller.write(f"{path}/deep", 0, b"DEEP")
        await run.publish("b")
        assert await run.published("b") == await run.picture("b")


async def test_what_an_open_file_was_given_is_published(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        contents = {"small": os.urandom(700), "large": os.urandom(2 * _MIB)}
        files = {name: await run.caller.open_new(f"backups/b/{name}") for name in contents}
        for name, content in contents.items():
            await run.node.namespace.write(files[name], 0, content)
            await run.node.namespace.durable()
        await run.publish("b")
        shown = await run.published("b")
        assert {name: shown[name].content for name in contents} == contents
        for file in files.values():
            await run.node.namespace.write(file, 5, b"and more")
        assert await run.published("b") == shown
        await run.publish("b")
        assert await run.published("b") == await run.picture("b")
        for file in files.values():
            run.node.namespace.close(file)


async def test_content_that_is_only_in_the_data_log_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _running(tmp_path) as run:
        # As if writing went on between the last sealing and the checkpoint.
        monkeypatch.setattr(run.node.files, "seal_resting", lambda **_: None)
        await run.caller.mkdir("backups/b")
        await run.caller.create("backups/b/small", os.urandom(700))
        await run.caller.create("backups/b/large", os.urandom(2 * _MIB))
        await run.caller.write("backups/b/large", _MIB, b"changed")
        await run.publish("b")
        assert await run.published("b") == await run.picture("b")


async def test_a_snapshot_taken_amid_writing_is_the_tree_of_one_instant(tmp_path: Path) -> None:
    """Two files are written in turns, so one is never more than one step behind the other."""
    stop = trio.Event()

    async def write_on(run: Run) -> None:
        async with run.caller.opened("backups/b/1") as one, run.caller.opened("backups/b/2") as two:
            number = 0
            while not stop.is_set():
                number += 1
                for file in (one, two):
                    content = number.to_bytes(4, "big") * 5000
                    await run.node.namespace.write(file, 0, content)
                await trio.lowlevel.checkpoint()

    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        await run.caller.create("backups/b/1", bytes(20_000))
        await run.caller.create("backups/b/2", bytes(20_000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_on, run)
            for _ in range(8):
                await run.publish("b")
                shown = await run.published("b")
                first, second = (shown[name].content for name in "12")
                assert first == first[:4] * 5000
                assert second == second[:4] * 5000
                ahead = int.from_bytes(first[:4], "big") - int.from_bytes(second[:4], "big")
                assert ahead in {0, 1}
            stop.set()


async def test_a_backup_keeps_its_history_when_it_is_renamed(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/old")
        first = await run.publish("old")
        await run.caller.rename("backups/old", "backups/new")
        assert await run.caller.names("snapshots") == ["new"]
        await run.caller.create("backups/new/f", b"content")
        run.clock.now_ns += 10**9
        second = await run.publish("new")
        assert await run.caller.names("snapshots/new") == [first.name, second.name, "latest"]
        assert await run.published("new") == await run.picture("new")


async def test_a_removed_backup_keeps_its_snapshots_beside_those_of_its_successor(
    tmp_path: Path,
) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        await run.caller.create("backups/b/f", b"first")
        first = await run.publish("b")
        await run.caller.unlink("backups/b/f")
        await run.caller.rmdir("backups/b")
        assert (await run.published("b"))["f"].content == b"first"
        await run.caller.mkdir("backups/b")
        await run.caller.create("backups/b/f", b"second")
        await run.publish("b")
        assert await run.caller.names("snapshots/b") == [first.name, f"{first.name}.2", "latest"]
        assert (await run.published("b"))["f"].content == b"second"
        shown = await run.caller.picture(f"snapshots/b/{first.name}")
        assert shown["f"].content == b"first"
    async with _running(tmp_path) as run:
        assert await run.caller.names("snapshots/b") == [first.name, f"{first.name}.2", "latest"]


async def test_snapshots_of_one_second_are_told_apart(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        names = []
        for number in range(3):
            await run.caller.create(f"backups/b/{number}")
            names.append((await run.publish("b")).name)
        assert names == ["2027-01-15T08.00.00Z", f"{names[0]}.2", f"{names[0]}.3"]
        assert await run.caller.readlink("snapshots/b/latest") == names[2]


async def test_latest_follows_publishing_when_the_clock_goes_back(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        await run.publish("b")
        run.clock.now_ns -= 3600 * 10**9
        await run.caller.create("backups/b/f", b"newest")
        earlier = await run.publish("b")
        assert await run.caller.readlink("snapshots/b/latest") == earlier.name
        assert (await run.published("b"))["f"].content == b"newest"
    async with _running(tmp_path) as run:
        assert await run.caller.readlink("snapshots/b/latest") == earlier.name


async def test_a_quiet_backup_is_published_by_itself(tmp_path: Path) -> None:
    async with _running(tmp_path, publish_after_seconds=0.05) as run:
        await run.caller.mkdir("backups/b")
        ino = run.backup("b")
        await _until(lambda: run.node.snapshots.latest(ino))
        assert await run.published("b") == await run.picture("b")


async def test_a_backup_that_never_rests_is_published_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "_BUSY_SECONDS", 0.4)
    async with _running(tmp_path, publish_after_seconds=3600) as run:
        await run.caller.mkdir("backups/b")
        await run.caller.create("backups/b/f")
        ends = trio.current_time() + 2.0
        while trio.current_time() < ends:
            await run.caller.write("backups/b/f", 0, os.urandom(10))
            await run.node.namespace.durable()
        names = await run.caller.names("snapshots/b")
        assert 2 <= len(names) - 1 <= 5


@pytest.mark.announces("publishing a backup .* failed")
async def test_publishing_that_failed_is_tried_again(tmp_path: Path) -> None:
    failures = iter([StoreFull("full"), OSError(errno.EIO, "broken"), ValueError("a bug")])
    async with _running(tmp_path, publish_after_seconds=0.02) as run:
        record = run.storage.journal.record_snapshot

        def record_at_last(*arguments: object) -> None:
            for failure in failures:
                raise failure
            record(*arguments)  # type: ignore[arg-type]

        run.storage.journal.record_snapshot = record_at_last  # type: ignore[method-assign]
        await run.caller.mkdir("backups/b")
        ino = run.backup("b")
        await _until(lambda: run.node.snapshots.latest(ino))
        assert await run.published("b") == {}


@pytest.mark.announces("publishing a backup .* failed")
async def test_one_backup_that_cannot_be_published_holds_up_no_other(tmp_path: Path) -> None:
    async with _running(tmp_path, publish_after_seconds=0.02) as run:
        await run.caller.mkdir("backups/a")
        await run.caller.mkdir("backups/b")
        bad, good = run.backup("a"), run.backup("b")
        write = run.node.publisher._write

        def write_the_good(ino: int) -> object:
            if ino == bad:
                raise ValueError("a bug that only this one meets")
            return write(ino)

        run.node.publisher._write = write_the_good  # type: ignore[assignment, method-assign]
        await _until(lambda: run.node.snapshots.latest(good))
        assert run.node.snapshots.latest(bad) is None


async def test_a_backup_that_is_removed_while_it_is_published_disturbs_nobody(
    tmp_path: Path,
) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/a")
        await run.caller.mkdir("backups/b")
        await run.node.namespace.durable()
        flush = run.storage.store.flush

        def remove_then_flush() -> None:
            run.storage.store.flush = flush  # type: ignore[method-assign]
            trio.from_thread.run(run.caller.rmdir, "backups/a")
            flush()

        gone = run.backup("a")
        run.storage.store.flush = remove_then_flush  # type: ignore[method-assign]
        with pytest.raises(FileNotFoundError):
            await run.node.publisher.publish(gone)
        with pytest.raises(FileNotFoundError):
            await run.node.publisher.publish(gone)
        await run.node.publisher.publish_all()
        assert await run.caller.names("snapshots") == ["b"]


async def test_a_snapshot_can_be_opened_by_its_reference(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        await run.caller.mkdir("backups/b/d")
        await run.caller.create("backups/b/d/f", b"content")
        reference: Reference = (await run.publish("b")).reference
        assert unlinked(await run.caller.picture(str(reference)[1:])) == await run.picture("b")


async def test_snapshots_are_there_after_a_restart(tmp_path: Path) -> None:
    async with _running(tmp_path) as run:
        await run.caller.mkdir("backups/b")
        await run.caller.create("backups/b/f", os.urandom(3 * _MIB))
        await run.publish("b")
        shown = await run.published("b")
    async with _running(tmp_path) as run:
        assert await run.published("b") == shown == await run.picture("b")
        assert run.node.publisher.unpublished() == []


def _make_file(run: Run, folder: int, name: bytes) -> None:
    entry, file = run.node.namespace.create(folder, name, NewInode(stat.S_IFREG | 0o644, 1, 1))
    run.node.namespace.close(file)
    run.node.namespace.forget(entry.ino, 1)

"""The clock is set back an hour: nothing is lost, and nothing changes places."""

import shutil
from pathlib import Path

from tests.support.sharing import sharing_node

HOUR_NS = 3600 * 10**9


class Clock:
    """A clock that a person sets; State: now_ns, which it shows and which goes on by itself."""

    def __init__(self) -> None:
        self.now_ns = 1_800_000_000 * 10**9

    def __call__(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns


async def test_what_is_written_and_published_after_it_comes_after_what_was_before(
    tmp_path: Path,
) -> None:
    clock, folder = Clock(), tmp_path / "node"
    async with sharing_node(folder, clock=clock) as node:
        caller = node.caller
        await caller.mkdir("backups/b")
        await caller.create("backups/b/old", b"written before")
        await caller.create("backups/b/file", b"first")
        first = (await node.command("snapshot", name="b"))["published"]

        clock.now_ns -= HOUR_NS
        await caller.write("backups/b/file", 0, b"then!")
        await caller.create("backups/b/new", b"written after")
        second = (await node.command("snapshot", name="b"))["published"]

        assert second < first  # by its name it is older
        assert await caller.readlink("snapshots/b/latest") == second
        assert await caller.read(f"snapshots/b/{first}/file") == b"first"
        tree = await caller.picture("backups")
        assert tree["b/file"].content == b"then!"
        assert (await caller.published("b")).keys() == {"old", "file", "new"}

    clock.now_ns -= HOUR_NS
    async with sharing_node(folder, clock=clock) as node:
        caller = node.caller
        assert await caller.picture("backups") == tree
        assert await caller.readlink("snapshots/b/latest") == second
        await caller.unlink("backups/b/new")
        third = (await node.command("snapshot", name="b"))["published"]
        assert await caller.readlink("snapshots/b/latest") == third
        assert (await caller.published("b")).keys() == {"old", "file"}
        assert set(await caller.names("snapshots/b")) == {first, second, third, "latest"}


async def test_what_was_published_after_it_is_not_forgotten_as_old(tmp_path: Path) -> None:
    clock = Clock()
    async with sharing_node(tmp_path / "node", clock=clock) as node:
        await node.caller.mkdir("backups/b")
        names = []
        for number in range(4):
            if number == 2:
                clock.now_ns -= HOUR_NS
            await node.caller.create(f"backups/b/{number}")
            names.append((await node.command("snapshot", name="b"))["published"])
        for keep in ("last", "hourly"):
            answer = await node.command("forget", names=["b"], keep={keep: 2}, dry_run=True)
            [group] = answer["groups"]
            kept = [each["name"] for each in group["keep"]]
            assert kept == (names[2:] if keep == "last" else [names[1], names[3]])


async def test_an_fsync_after_it_is_kept_by_a_crash(tmp_path: Path) -> None:
    clock, folder, copy = Clock(), tmp_path / "node", tmp_path / "crashed"
    async with sharing_node(folder, clock=clock) as node:
        await node.caller.mkdir("backups/b")
        await node.caller.create("backups/b/file", b"before")
        await node.command("sync")
        clock.now_ns -= HOUR_NS
        await node.caller.write("backups/b/file", 0, b"after!")
        await node.caller.create("backups/b/more", b"more")
        await node.command("sync")
        tree = await node.caller.picture("backups")
        shutil.copytree(folder, copy)
    async with sharing_node(copy, clock=clock) as node:
        assert await node.caller.picture("backups") == tree


async def test_what_stands_still_is_published_once_and_what_changed_is_published_again(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with sharing_node(tmp_path / "node", clock=clock) as node:
        await node.caller.mkdir("backups/b")
        await node.caller.create("backups/b/file", b"content")
        first = await node.command("snapshot", name="b")
        clock.now_ns -= HOUR_NS
        assert await node.command("snapshot", name="b") == first
        await node.caller.write("backups/b/file", 0, b"changed")
        second = await node.command("snapshot", name="b")
        assert second["reference"] != first["reference"]

"""Folders too wide for one document: what a change publishes is what a full write would."""

import random
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio

from libernet.blocks.reference import Reference
from libernet.fs.journal_reader import JournalReader
from libernet.fs.node import LocalNode
from libernet.fs.storage import Storage
from libernet.fs.tree_documents import TreeDocuments
from tests.support.caller import Caller, node_settings, opened_node
from tests.support.miniature import small_sizes

_SECONDS = 300  # longer than anything here takes on a busy machine


@pytest.fixture(autouse=True)
def miniature() -> Iterator[None]:
    with small_sizes():
        yield


class _Wide:
    """A running node with the backup b, whose folder `wide` has pages."""

    def __init__(self, storage: Storage, node: LocalNode, folder: Path) -> None:
        self.storage = storage
        self.node = node
        self.caller = Caller(node.namespace)
        self._copy = folder / "copy.sqlite"

    async def fill(self, names: int) -> None:
        await self.caller.mkdir("backups/b")
        await self.caller.mkdir("backups/b/wide")
        for number in range(names):
            if number % 10:
                await self.caller.create(f"backups/b/wide/{number:03}", b"%d" % number)
            else:
                await self.caller.mkdir(f"backups/b/wide/{number:03}")
                await self.caller.create(f"backups/b/wide/{number:03}/inside", b"")

    async def publish(self) -> None:
        """Publish it, and compare that with what would be written if nothing were known."""
        backup = dict(self.node.tree.backups())[b"b"].ino
        snapshot = await self.node.publisher.publish(backup)
        self._copy.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(self.storage.journal.path)) as source,
            closing(sqlite3.connect(self._copy, isolation_level=None)) as copy,
        ):
            source.backup(copy)
            copy.execute("DELETE FROM folder_document")
        with JournalReader(self._copy) as reader:
            whole = TreeDocuments(reader, self.node.publisher._maker)
            assert whole.reference(backup) == snapshot.reference
            counted = reader.rows(
                "WITH RECURSIVE below (ino) AS ("
                " SELECT ? UNION"
                " SELECT inode.ino FROM inode JOIN below ON inode.parent = below.ino)"
                " SELECT count(*), sum(size) FROM below JOIN entry ON entry.parent = below.ino"
                " JOIN inode ON inode.ino = entry.ino WHERE mode & 61440 <> 16384",
                backup,
            )
            assert counted == [(snapshot.files, snapshot.bytes)]

    def pages(self) -> int:
        return len(self.storage.reader.rows("SELECT 1 FROM folder_page"))

    def changed(self) -> set[bytes]:
        return {row[0] for row in self.storage.reader.rows("SELECT name FROM changed_name")}


@asynccontextmanager
async def _published(tmp_path: Path) -> AsyncIterator[_Wide]:
    """A node with a wide folder that was published."""
    with trio.fail_after(_SECONDS), opened_node(tmp_path, node_settings(tmp_path)) as opened:
        wide = _Wide(*opened, tmp_path)
        async with wide.node.running():
            await wide.fill(120)
            await wide.publish()
            yield wide


async def test_a_page_that_was_lost_is_written_anew_with_the_next_change(tmp_path: Path) -> None:
    async with _published(tmp_path) as wide:
        rows = wide.storage.reader.rows("SELECT url FROM folder_page ORDER BY first")
        lost = Reference.parse(rows[-1][0]).id
        wide.storage.store._index.remove(lost)
        await wide.caller.create("backups/b/wide/000-first", b"")
        await wide.publish()
        assert wide.storage.store.is_own(lost)


async def test_a_document_of_an_unchanged_folder_that_was_lost_is_written_anew(
    tmp_path: Path,
) -> None:
    async with _published(tmp_path) as wide:
        documents = "SELECT reference FROM folder_document WHERE reference IS NOT NULL"
        stored = {Reference.parse(url).id for (url,) in wide.storage.reader.rows(documents)}
        [lost] = stored.difference(wide.node.snapshots.ids())
        wide.storage.store._index.remove(lost)
        await wide.caller.create("backups/b/beside", b"")
        await wide.publish()
        assert wide.storage.store.is_own(lost)


async def test_after_any_changes_a_wide_folder_is_published_as_if_for_the_first_time(
    tmp_path: Path,
) -> None:
    play = random.Random(4)
    with trio.fail_after(_SECONDS), opened_node(tmp_path, node_settings(tmp_path)) as opened:
        wide = _Wide(*opened, tmp_path)
        caller = wide.caller
        async with wide.node.running():
            await wide.fill(120)
            await wide.publish()
            assert wide.pages() > 5
            for round_number in range(12):
                names = await caller.names("backups/b/wide")
                folders = [name for name in names if name.endswith("0")]
                one, two = play.sample([name for name in names if name not in folders], 2)
                first, second = play.sample(folders, 2)
                at = "backups/b/wide"
                match round_number % 6:
                    case 0:
                        await caller.unlink(f"{at}/{one}")
                        await caller.create(f"{at}/new {one}", b"new")
                    case 1:
                        await caller.rename(f"{at}/{first}", f"{at}/{second}", 2)  # exchanged
                        await caller.rename(f"{at}/{one}", f"{at}/{two}")
                    case 2:
                        await caller.create(f"{at}/{first}/deeper {round_number}", b"")
                    case 3:
                        await caller.link(f"{at}/{one}", f"backups/b/twin {round_number}")
                    case 4:
                        await caller.rename(f"{at}/{first}", f"backups/b/moved {round_number}")
                    case 5:
                        await caller.create(f"backups/b/beside {round_number}", b"")
                await wide.publish()
                assert wide.changed() == set()


async def test_what_changes_while_a_wide_folder_is_published_is_in_the_next_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(_SECONDS), opened_node(tmp_path, node_settings(tmp_path)) as opened:
        wide = _Wide(*opened, tmp_path)
        async with wide.node.running():
            await wide.fill(120)
            for number in range(3):  # the first time it has no pages yet that could be followed
                await wide.caller.unlink(f"backups/b/wide/{5 + number:03}")
                record = wide.node.publisher._record

                async def later(ino: int, written: object, number: int = number) -> object:
                    await wide.caller.unlink(f"backups/b/wide/{15 + number:03}")
                    await wide.node.namespace.durable()
                    return await record(ino, written)  # type: ignore[arg-type]  # noqa: B023

                with monkeypatch.context() as patch:
                    patch.setattr(wide.node.publisher, "_record", later)
                    backup = dict(wide.node.tree.backups())[b"b"].ino
                    await wide.node.publisher.publish(backup)
                await wide.publish()
                assert wide.pages() > 5


async def test_little_is_known_of_a_folder_that_is_wide_no_more(tmp_path: Path) -> None:
    with trio.fail_after(_SECONDS), opened_node(tmp_path, node_settings(tmp_path)) as opened:
        wide = _Wide(*opened, tmp_path)
        async with wide.node.running():
            await wide.fill(120)
            await wide.publish()
            for name in (await wide.caller.names("backups/b/wide"))[3:]:
                if not name.endswith("0"):
                    await wide.caller.unlink(f"backups/b/wide/{name}")
            await wide.publish()
            await wide.caller.create("backups/b/wide/more", b"")
            await wide.publish()
            await wide.caller.rename("backups/b/wide", "backups/b/other")
            await wide.publish()

"""What a node gives up when it collects, and what it never does."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
import trio
import trio.lowlevel

from libernet.blocks.errors import BlockNotFound, StoreError
from libernet.blocks.ids import BlockId, StoredId
from libernet.blocks.public_sealing import seal_public
from libernet.blocks.source import Origin
from libernet.blocks.store import Store
from libernet.blocks.store_index import BlockClass
from tests.support.sharing import Reachable, SharingNode, sharing_node

T = TypeVar("T")

_LARGE = 3_000_000
_COLLECTIONS = 5


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SharingNode]:
    async with sharing_node(tmp_path / "node") as running:
        yield running


async def _gc(node: SharingNode, *, dry_run: bool = False) -> int:
    answer = await node.command("gc", dry_run=dry_run)
    assert answer["dry_run"] is dry_run
    blocks: int = answer["blocks"]
    return blocks


async def _put(node: SharingNode, path: str, content: bytes) -> None:
    """Make a file, or give it another content."""
    try:
        await node.caller.truncate(path, 0)
        await node.caller.write(path, 0, content)
    except FileNotFoundError:
        await node.caller.create(path, content)


async def _seal(node: SharingNode) -> None:
    """Let chunks take the place of what is in memory and in the data log."""
    await node.node.files.seal_all()
    await node.command("sync")


def _own(node: SharingNode) -> int:
    return node.store.totals_by_class()[BlockClass.OWN].blocks


async def test_what_only_an_overwritten_file_needed_goes(node: SharingNode) -> None:
    await node.caller.mkdir("backups/b")
    await _put(node, "backups/b/f", os.urandom(_LARGE))
    await _seal(node)
    kept = os.urandom(_LARGE)
    await _put(node, "backups/b/f", kept)
    await _seal(node)
    before = _own(node)
    unneeded = await _gc(node, dry_run=True)
    assert 3 <= unneeded < before
    assert _own(node) == before
    assert await _gc(node) == unneeded
    assert _own(node) == before - unneeded
    assert await _gc(node) == 0
    assert await node.caller.read("backups/b/f") == kept


async def test_snapshots_shares_and_all_below_them_stay_readable(node: SharingNode) -> None:
    await node.caller.mkdir("backups/b")
    await node.caller.mkdir("backups/b/d")
    contents = {name: os.urandom(size) for name, size in (("f", _LARGE), ("d/g", 40_000))}
    for name, content in contents.items():
        await _put(node, f"backups/b/{name}", content)
    first = await node.command("snapshot", name="b")
    shared = await node.share("backups/b/d/g")
    for name in contents:
        await _put(node, f"backups/b/{name}", os.urandom(50_000))
    await node.command("snapshot", name="b")
    needed = Reachable(node.store, shared).blocks
    await _gc(node)
    [oldest, *_] = sorted(await node.caller.names("snapshots/b"))
    for name, content in contents.items():
        assert await node.caller.read(f"snapshots/b/{oldest}/{name}") == content
    assert all(block_id in node.store for block_id in needed)
    assert BlockId.parse(first["reference"].split("/")[2]) in node.store


async def test_an_unlinked_file_that_is_open_keeps_its_chunks(node: SharingNode) -> None:
    await node.caller.mkdir("backups/b")
    content = os.urandom(_LARGE)
    await _put(node, "backups/b/f", content)
    await _seal(node)
    async with node.caller.opened("backups/b/f", os.O_RDONLY) as handle:
        await node.caller.unlink("backups/b/f")
        await node.command("sync")
        await _gc(node)
        assert await node.caller.namespace.read(handle, 0, _LARGE) == content
    await node.command("sync")
    assert await _gc(node) > 0


async def test_cached_blocks_are_not_collected(node: SharingNode) -> None:
    reference, block = seal_public(os.urandom(50_000))
    assert node.store.put_cached(reference.id, block)
    await _gc(node)
    assert reference.id in node.store


async def test_a_document_that_cannot_be_read_keeps_everything(
    node: SharingNode, tmp_path: Path
) -> None:
    await node.caller.mkdir("backups/b")
    await _put(node, "backups/b/f", os.urandom(_LARGE))
    reference = (await node.command("snapshot", name="b"))["reference"]
    await _put(node, "backups/b/f", b"")
    await node.command("sync")
    before = _own(node)
    document = BlockId.parse(reference.split("/")[2])
    block = node.store.get(document)
    node.store._index.remove(document)
    with pytest.raises(StoreError, match="nothing was collected"):
        await _gc(node)
    assert _own(node) == before - 1
    node.store.put(document, block)
    assert await _gc(node) == 0


async def test_a_publication_under_way_loses_nothing(node: SharingNode) -> None:
    """Collections, writing, publishing and reading a snapshot go on at the same time."""
    await node.caller.mkdir("backups/b")
    kept = os.urandom(_LARGE)
    await _put(node, "backups/b/kept", kept)
    await node.command("snapshot", name="b")
    [snapshot] = [each for each in await node.caller.names("snapshots/b") if each != "latest"]
    written: dict[str, bytes] = {}
    collected: list[int] = []

    async def write() -> None:
        for number in count():
            if len(collected) >= _COLLECTIONS and number > 8:
                return
            content = os.urandom(200_000 + 90_000 * (number % 12))
            await _put(node, f"backups/b/f{number % 4}", content)
            written[f"f{number % 4}"] = content
            if number % 3 == 0:
                await node.command("snapshot", name="b")

    async def collect() -> None:
        with contextlib.suppress(trio.Cancelled):
            while True:
                collected.append(await _gc(node))
                await trio.lowlevel.checkpoint()

    async def restore() -> None:
        for _ in range(10):
            assert await node.caller.read(f"snapshots/b/{snapshot}/kept") == kept

    async with trio.open_nursery() as going_on:
        going_on.start_soon(collect)
        async with trio.open_nursery() as working:
            working.start_soon(write)
            working.start_soon(restore)
        going_on.cancel_scope.cancel()
    await _gc(node)
    for name, content in written.items():
        assert await node.caller.read(f"backups/b/{name}") == content
    for name in set(await node.caller.names("snapshots/b")) - {"latest"}:
        assert await node.caller.read(f"snapshots/b/{name}/kept") == kept


async def test_streams_and_bundles_for_everybody_stay(node: SharingNode, tmp_path: Path) -> None:
    file = tmp_path / "film.bin"
    file.write_bytes(os.urandom(_LARGE))
    answer = await node.command("publish-stream", path=str(file))
    before = _own(node)
    assert await _gc(node) == 0
    assert _own(node) == before
    assert await node.caller.read(answer["reference"][1:]) == file.read_bytes()


class _Remote:
    """What a node asks: its own store, once that is known, and then another node's.

    Like a fetcher it keeps what it had to ask the other for.
    """

    def __init__(self, other: Store) -> None:
        self._other = other
        self.own: Store

    async def get(
        self,
        block_id: StoredId,
        use: Callable[[bytes], T],
        origin: Origin | None = None,
        *,
        ahead: bool = False,
    ) -> T:
        await trio.lowlevel.checkpoint()
        try:
            return use(self.own.get(block_id))
        except BlockNotFound:
            block = self._other.get(block_id)
            self.own.put_cached(block_id, block)
            return use(block)

    def bring(self, block_ids: Sequence[BlockId], origin: Origin) -> None:
        """Bring nothing ahead of need."""

    def ahead_bytes(self, origin: Origin | None) -> int:
        return 0


async def test_a_bundle_of_another_node_is_read_on_while_both_collect(
    node: SharingNode, tmp_path: Path
) -> None:
    content = os.urandom(20 * _LARGE)
    await node.caller.mkdir("backups/b")
    await _put(node, "backups/b/f", content)
    shared = await node.share("backups/b/f")
    await node.caller.unlink("backups/b/f")
    await node.command("sync")
    remote = _Remote(node.store)
    async with sharing_node(tmp_path / "reader", remote) as reader:
        remote.own = reader.store
        name = await reader.open(shared)
        await reader.caller.mkdir("backups/own")
        async with reader.caller.opened(f"bundles/{name}/f", os.O_RDONLY) as file:
            for start in range(0, len(content), _LARGE):
                await _put(reader, "backups/own/g", os.urandom(100_000))
                await _seal(reader)
                piece = await reader.caller.namespace.read(file, start, _LARGE)
                assert piece == content[start : start + _LARGE]
                await _gc(reader)
                await _gc(node)
        assert await reader.caller.read(f"bundles/{name}/f") == content


def _ids(node: SharingNode) -> set[StoredId]:
    return {entry.id for entry in node.store._index.behind(b"", 10_000)}


async def test_a_collection_after_a_restart_finds_the_same(tmp_path: Path) -> None:
    async with sharing_node(tmp_path / "node") as node:
        await node.caller.mkdir("backups/b")
        for number in range(30):
            await _put(node, f"backups/b/{number}", os.urandom(20_000))
        await node.command("snapshot", name="b")
    async with sharing_node(tmp_path / "node") as node:
        before = _ids(node)
        assert await _gc(node) == 0
        assert _ids(node) == before

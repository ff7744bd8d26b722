"""What files owe to the moment: changes between two steps of sealing or committing them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from libernet.fs.node import LocalNode
from libernet.fs.storage import Storage
from tests.support.caller import Caller, opened_node
from tests.support.miniature import CHUNK_BYTES, small_sizes

_KIB = 1024


@pytest.fixture(autouse=True)
def miniature() -> Iterator[None]:
    with small_sizes():
        yield


class Desk:
    """A node that runs, with one backup; files are told by their names in it."""

    def __init__(self, disk: Storage, node: LocalNode) -> None:
        self.disk = disk
        self.node = node
        self.caller = Caller(node.namespace)

    async def published(self, name: str) -> bytes:
        """Return the file as a snapshot made now shows it."""
        async with self.caller.at("backups/one") as backup:
            snapshot = await self.node.publisher.publish(backup)
        return await self.caller.read(f"snapshots/one/{snapshot.name}/{name}")

    async def logged_bytes(self, name: str) -> int:
        """Return how much of a file is in the data log after a checkpoint now."""
        await self.node.checkpointer.durable()
        async with self.caller.at(f"backups/one/{name}") as ino:
            extents = self.disk.reader.extents(ino)
        return sum(extent.length for extent in extents if extent.piece.log is not None)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    with opened_node(tmp_path / "state") as (disk, node):
        async with node.running():
            desk = Desk(disk, node)
            await desk.caller.mkdir("backups/one")
            yield desk


@pytest.mark.parametrize("size", [60, 50, 20, 0])
async def test_a_file_that_shrinks_while_it_is_sealed_ends_where_it_should(
    desk: Desk, size: int
) -> None:
    await desk.caller.create("backups/one/f", b"x" * 50)
    await desk.caller.truncate("backups/one/f", 100)
    desk.node.files.seal_resting(everything=True)
    await desk.caller.truncate("backups/one/f", size)
    await desk.node.checkpointer.durable()
    expected = b"x" * min(size, 50) + bytes(max(0, size - 50))
    assert await desk.published("f") == expected
    assert await desk.published("f") == expected
    assert await desk.caller.read("backups/one/f") == expected


async def test_a_file_that_shrinks_and_grows_while_it_is_sealed_has_zeros_there(
    desk: Desk,
) -> None:
    await desk.caller.create("backups/one/f", b"x" * 100)
    desk.node.files.seal_resting(everything=True)
    await desk.caller.truncate("backups/one/f", 40)
    await desk.caller.truncate("backups/one/f", 100)
    assert await desk.published("f") == b"x" * 40 + bytes(60)


@pytest.mark.parametrize("rewritten_at", [0, 5000])
async def test_a_long_run_of_writes_is_sealed_on_the_way_even_when_its_begin_is_written_again(
    desk: Desk, rewritten_at: int
) -> None:
    file = await desk.caller.open_new("backups/one/f")
    content = bytearray()

    async def write(offset: int, written: bytes) -> None:
        content[offset : offset + len(written)] = written
        await desk.caller.namespace.write(file, offset, written)

    await write(0, bytes(10 * _KIB))
    await write(rewritten_at, b"header")
    for at in range(10, 60):
        await write(at * _KIB, bytes([at]) * _KIB)
    assert await desk.logged_bytes("f") <= 10 * _KIB + 2 * CHUNK_BYTES
    desk.caller.namespace.close(file)
    assert await desk.published("f") == content


async def test_a_run_of_writes_that_ends_where_a_chunk_does_goes_on_behind_it(desk: Desk) -> None:
    zeros = bytes(3 * CHUNK_BYTES)  # bytes that are all the same are cut where chunks are longest
    async with AsyncExitStack() as stack:
        file = await desk.caller.open_new("backups/one/f")
        stack.callback(desk.caller.namespace.close, file)
        await desk.caller.namespace.write(file, 0, zeros)
        await desk.caller.namespace.write(file, len(zeros), b"more")
        await desk.node.checkpointer.durable()
    assert await desk.caller.read("backups/one/f") == zeros + b"more"
    assert await desk.published("f") == zeros + b"more"


async def test_a_write_of_nothing_changes_nothing(desk: Desk) -> None:
    await desk.caller.create("backups/one/f", b"before")
    for offset in (0, 3, 6, 9):
        await desk.caller.write("backups/one/f", offset, b"")
    await desk.caller.write("backups/one/f", 3, b"behind")
    assert await desk.published("f") == b"befbehind"

"""Blocks from peers: real stores, clients and servers; scripted peers, and a clock that jumps."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from libernet.blocks.errors import (
    BlockCorrupt,
    BlockNotFound,
    LibernetError,
    NetworkError,
    PeerTimeout,
)
from libernet.blocks.ids import BlobId, BlockId
from libernet.blocks.store import SMALL_BLOCK_BYTES, Store
from libernet.blocks.store_index import BlockClass
from libernet.net import flights
from libernet.net.fetcher import FETCH_SECONDS
from tests.support.far import NETWORK_IS_DOWN
from tests.support.fetching import ABSENT, BLOCK, ID, ORIGIN, ROOT, SMALL, SMALL_IDS, World


async def test_blobs_come_from_peers_that_announced_nothing(world: World, clock: MockClock) -> None:
    blob = bytes(2 * 1024 * 1024)
    peer = world.hinted("peer")
    peer.blocks[BlobId.of(blob)] = blob
    assert await world.fetcher.get(BlobId.of(blob), bytes) == blob
    peer.is_down = True
    assert await world.fetcher.get(BlobId.of(blob), bytes) == blob
    with trio.fail_after(25), pytest.raises(LibernetError):
        await world.fetcher.get(BlobId.of(BLOCK), bytes)
    assert not world.discovery.found


async def test_other_bytes_are_not_taken_for_a_blob(world: World, clock: MockClock) -> None:
    peer = world.hinted("peer")
    peer.blocks[BlobId.of(BLOCK)] = b"something else"
    with pytest.raises(BlockCorrupt):
        await world.fetcher.get(BlobId.of(BLOCK), bytes)


async def test_what_is_here_asks_nobody(world: World, clock: MockClock) -> None:
    peer = world.hinted("peer", BLOCK)
    world.store.put(ID, BLOCK)
    assert await world.get() == BLOCK
    assert not peer.dials
    assert not world.discovery.found


async def test_a_block_comes_from_a_peer_and_is_here_from_then_on(
    world: World, clock: MockClock
) -> None:
    peer = world.hinted("peer", BLOCK)
    assert await world.get() == BLOCK
    peer.is_down = True
    assert await world.get() == BLOCK
    assert peer.asked == [ID]
    assert world.store.get(ID) == BLOCK
    assert world.fetched == [(ID, ORIGIN)]


async def test_what_was_fetched_is_kept_as_a_cached_block(world: World, clock: MockClock) -> None:
    world.hinted("peer", BLOCK)
    await world.get()
    await trio.sleep(6)
    await wait_all_tasks_blocked(0.05)
    assert world.store.totals_by_class()[BlockClass.CACHED].blocks == 1
    assert world.store.discard(ID)


async def test_a_block_that_finds_no_room_is_still_read(
    quick_folder: Path, nursery: trio.Nursery, clock: MockClock
) -> None:
    with Store(quick_folder / "tiny", cache_bytes=0, reserve_bytes=0) as store:
        world = World(store, nursery)
        await nursery.start(world.run)
        peer = world.hinted("peer", BLOCK)
        assert [await world.get(), await world.get()] == [BLOCK, BLOCK]
        assert peer.asked == [ID, ID]
        assert world.fetched == []  # nothing that others could get here
        world.run_scope.cancel()


async def test_one_fetch_serves_all_readers(world: World, clock: MockClock) -> None:
    peer = world.hinted("peer", BLOCK)
    peer.delay_seconds = 1
    assert await world.outcomes(50) == [BLOCK] * 50
    assert peer.asked == [ID]


async def test_providers_of_the_root_are_found_and_asked(world: World, clock: MockClock) -> None:
    stranger = world.hinted("stranger")
    peer = world.announced("peer", ROOT, BLOCK)
    assert await world.get() == BLOCK
    assert stranger.dials == peer.dials == 1
    assert world.discovery.found == {ROOT: 1}


async def test_who_gave_one_block_of_a_bundle_is_asked_first_for_the_next(
    world: World, clock: MockClock
) -> None:
    stranger = world.hinted("stranger")
    others = [b"%d" % number for number in range(20)]
    peer = world.announced("peer", ROOT, BLOCK, *others)
    await world.get()
    stranger.dials = 0
    for other in others:
        assert await world.get(BlockId.of(other)) == other
    assert stranger.dials == 0
    assert len(peer.asked) == 21
    assert world.discovery.found == {ROOT: 1}


async def test_providers_of_the_block_itself_are_the_last_resort(
    world: World, clock: MockClock
) -> None:
    world.announced("emptied", ROOT)
    world.announced("peer", ID, BLOCK)
    assert await world.get() == BLOCK
    assert world.discovery.found == {ROOT: 1, ID: 1}


async def test_many_fetches_share_one_look_up_of_the_root(world: World, clock: MockClock) -> None:
    blocks = [b"%d" % number for number in range(30)]
    world.announced("peer", ROOT, *blocks)
    world.discovery.delay_seconds = 1
    async with trio.open_nursery() as readers:
        for block in blocks:
            readers.start_soon(world.get, BlockId.of(block))
    assert world.discovery.found == {ROOT: 1}


async def test_a_provider_that_speaks_another_protocol_is_not_asked(
    world: World, clock: MockClock
) -> None:
    peer = world.announced("peer", ROOT, BLOCK)
    world.discovery.flags = 0
    assert isinstance(await world.outcome(), BlockNotFound)
    assert not peer.dials


async def test_no_error_is_kept(world: World, clock: MockClock) -> None:
    peer = world.announced("peer", ROOT)
    assert isinstance(await world.outcome(), BlockNotFound)
    peer.add(BLOCK)
    assert await world.get() == BLOCK


async def test_that_discovery_failed_or_found_nobody_is_soon_forgotten(
    world: World, clock: MockClock
) -> None:
    world.discovery.error = NETWORK_IS_DOWN
    assert isinstance(await world.outcome(), BlockNotFound)
    world.discovery.error = None
    assert isinstance(await world.outcome(), BlockNotFound)
    world.announced("peer", ROOT, BLOCK)
    await trio.sleep(2)
    assert await world.get() == BLOCK


async def test_all_readers_are_told_of_an_error_each_by_one_of_its_own(
    world: World, clock: MockClock
) -> None:
    world.hinted("peer").delay_seconds = 1
    outcomes = await world.outcomes(5, ABSENT)
    assert all(isinstance(each, BlockNotFound) for each in outcomes)
    assert len({id(each) for each in outcomes}) == 5


async def test_a_reader_that_gives_up_takes_the_block_from_nobody(
    world: World, nursery: trio.Nursery, clock: MockClock
) -> None:
    peer = world.hinted("peer", BLOCK)
    peer.delay_seconds = 3
    with trio.move_on_after(1):
        await world.get()
    assert await world.outcomes(2) == [BLOCK, BLOCK]
    assert peer.asked == [ID]


async def test_a_fetch_goes_on_when_all_its_readers_have_left(
    world: World, clock: MockClock
) -> None:
    peer = world.hinted("peer", BLOCK)
    peer.delay_seconds = 3
    with trio.move_on_after(1):
        await world.get()
    await trio.sleep(3)
    peer.is_down = True
    assert await world.get() == BLOCK


async def test_the_callers_deadline_is_honoured(world: World, clock: MockClock) -> None:
    world.hinted("silent", BLOCK).be_silent()
    start = trio.current_time()
    with pytest.raises(trio.TooSlowError), trio.fail_after(2):
        await world.get()
    assert trio.current_time() - start == 2


async def test_readers_over_the_limit_are_sent_away_and_fetch_nothing(
    world: World, nursery: trio.Nursery, clock: MockClock
) -> None:
    world.hinted("silent").be_silent()
    for number in range(flights.MAX_WAITING):
        nursery.start_soon(world.outcome, BlockId.of(b"%d" % number))
    await wait_all_tasks_blocked()
    before = len(world.fetcher._flights)
    assert isinstance(await world.outcome(), PeerTimeout)
    assert len(world.fetcher._flights) == before
    await trio.sleep(FETCH_SECONDS + 1)
    world.hinted("peer", BLOCK)
    assert await world.get() == BLOCK  # their places are free again


async def test_what_the_reader_makes_of_a_block_may_fail_without_asking_peers(
    world: World, clock: MockClock
) -> None:
    peer = world.hinted("peer", BLOCK)
    world.store.put(ID, BLOCK)

    def use(block: bytes) -> bytes:
        raise BlockCorrupt("this key does not open it")

    with pytest.raises(BlockCorrupt, match="this key"):
        await world.fetcher.get(ID, use, ORIGIN)
    assert not peer.dials


@pytest.mark.parametrize("size_bytes", [100, SMALL_BLOCK_BYTES + 1])
async def test_a_block_of_ones_own_that_rotted_is_healed(
    quick_folder: Path, nursery: trio.Nursery, size_bytes: int
) -> None:
    block = bytes(size_bytes)
    block_id = BlockId.of(block)
    with Store(quick_folder / "store", reserve_bytes=0) as store:
        store.put(block_id, block)
        store.flush()
        _rot(quick_folder / "store", block_id, size_bytes)
        world = World(store, nursery)
        await nursery.start(world.run)
        world.hinted("peer", block)
        assert await world.get(block_id) == block
        store.flush()
        assert store.totals_by_class()[BlockClass.OWN].blocks == 1
        assert not store.discard(block_id)
        world.run_scope.cancel()
    with Store(quick_folder / "store") as store:
        assert store.get(block_id) == block


def _rot(folder: Path, block_id: BlockId, size_bytes: int) -> None:
    if size_bytes > SMALL_BLOCK_BYTES:
        (file,) = (folder / "blocks").rglob(str(block_id))
        file.write_bytes(b"x" * size_bytes)
        return
    with contextlib.closing(sqlite3.connect(folder / "index.sqlite")) as index, index:
        columns = [row[1] for row in index.execute("PRAGMA table_info(content)")]
        (column,) = set(columns) - {"row"}
        index.execute(f"UPDATE content SET {column} = randomblob(?)", (size_bytes,))


async def test_when_the_network_ends_readers_are_told(
    world: World, nursery: trio.Nursery, clock: MockClock
) -> None:
    world.hinted("silent", *SMALL).be_silent()
    world.fetcher.bring(SMALL_IDS, ORIGIN)
    outcomes: list[bytes | LibernetError] = []

    async def read(block_id: BlockId) -> None:
        outcomes.append(await world.outcome(block_id))

    for block_id in (ID, SMALL_IDS[0], SMALL_IDS[199]):
        nursery.start_soon(read, block_id)
    await wait_all_tasks_blocked()
    world.run_scope.cancel()
    await wait_all_tasks_blocked()
    assert [type(each) for each in outcomes] == [NetworkError] * 3
    assert isinstance(await world.outcome(), NetworkError)
    world.fetcher.bring(SMALL_IDS, ORIGIN)  # does nothing
    assert world.fetcher.failures() == []


async def test_after_a_restart_of_the_network_all_is_as_before(
    world: World, nursery: trio.Nursery, clock: MockClock
) -> None:
    silent = world.hinted("peer", BLOCK)
    silent.be_silent()
    nursery.start_soon(world.outcome)
    await wait_all_tasks_blocked()
    world.run_scope.cancel()
    await wait_all_tasks_blocked()
    silent.delay_seconds = 0
    await nursery.start(world.run)
    assert await world.get() == BLOCK


async def test_an_unforeseen_error_is_told_and_ends_nothing(
    world: World, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world.discovery.error = ZeroDivisionError("a bug")
    assert isinstance(await world.outcome(), NetworkError)
    assert "a bug" in caplog.text
    world.fetcher.bring(SMALL_IDS, ORIGIN)
    await trio.sleep(1)
    world.discovery.error = None
    world.hinted("peer", BLOCK, *SMALL)
    assert await world.get() == BLOCK
    assert await world.get(SMALL_IDS[0]) == SMALL[0]


async def test_a_node_that_nobody_uses_asks_nobody(clock: MockClock, world: World) -> None:
    far = world.hinted("far", BLOCK)
    assert await world.get() == BLOCK
    announced, found = list(world.discovery.announced), dict(world.discovery.found)
    await trio.sleep(3600)
    assert (far.asked, far.dials) == ([ID], 1)
    assert (world.discovery.announced, world.discovery.found) == (announced, found)


async def test_what_was_only_wanted_ahead_of_a_reader_is_given_up_with_it(
    world: World, clock: MockClock
) -> None:
    peer = world.hinted("peer", BLOCK)
    peer.delay_seconds = 3
    with trio.move_on_after(1):
        await world.fetcher.get(ID, bytes, ORIGIN, ahead=True)
    assert len(world.fetcher._flights) == 0
    await trio.sleep(10)
    assert ID not in world.store
    assert world.fetcher.failures() == []
    assert await world.get() == BLOCK


async def test_what_a_reader_came_to_is_not_given_up_any_more(
    world: World, nursery: trio.Nursery, clock: MockClock
) -> None:
    peer = world.hinted("peer", BLOCK)
    peer.delay_seconds = 3

    async def read(seconds: float, *, ahead: bool) -> None:
        with trio.move_on_after(seconds):
            await world.fetcher.get(ID, bytes, ORIGIN, ahead=ahead)

    nursery.start_soon(lambda: read(2, ahead=True))
    await trio.sleep(0.5)
    await read(1, ahead=False)
    await trio.sleep(10)
    assert ID in world.store
    assert peer.asked == [ID]


async def test_who_wants_what_was_just_given_up_gets_it(
    world: World, nursery: trio.Nursery, clock: MockClock
) -> None:
    world.hinted("peer", BLOCK).delay_seconds = 1
    scope = trio.CancelScope()

    async def read_ahead() -> None:
        with scope:
            await world.fetcher.get(ID, bytes, ORIGIN, ahead=True)

    nursery.start_soon(read_ahead)
    await trio.sleep(0.5)
    scope.cancel()
    assert await world.get() == BLOCK

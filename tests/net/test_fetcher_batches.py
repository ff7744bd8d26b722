"""Many small blocks, brought ahead."""

import trio
from trio.testing import MockClock

from libernet.blocks.errors import (
    PeerTimeout,
)
from libernet.blocks.ids import BlockId
from libernet.net import fetcher as fetching
from libernet.net.fetcher import FETCH_SECONDS
from tests.support.fetching import BLOCK, ID, ORIGIN, ROOT, SMALL, SMALL_IDS, World


async def test_what_is_brought_needs_no_request_of_its_own(world: World, clock: MockClock) -> None:
    peer = world.hinted("peer", *SMALL)
    world.fetcher.bring(SMALL_IDS, ORIGIN)
    for block_id, block in zip(SMALL_IDS, SMALL, strict=True):
        assert await world.get(block_id) == block
    assert sorted(peer.asked) == sorted(SMALL_IDS)
    assert peer.dials <= 4


async def test_bringing_the_same_again_asks_nobody(world: World, clock: MockClock) -> None:
    peer = world.hinted("peer", *SMALL)
    world.fetcher.bring(SMALL_IDS, ORIGIN)
    world.fetcher.bring(SMALL_IDS, ORIGIN)
    await trio.sleep(1)
    world.fetcher.bring(SMALL_IDS, ORIGIN)
    await trio.sleep(1)
    assert len(peer.asked) == len(SMALL)


async def test_what_one_peer_lacks_of_a_batch_another_gives(world: World, clock: MockClock) -> None:
    world.hinted("half", *SMALL[:100])
    rest = world.hinted("rest", *SMALL[100:])
    world.fetcher.bring(SMALL_IDS, ORIGIN)
    await trio.sleep(1)
    assert all(block_id in world.store for block_id in SMALL_IDS)
    assert set(rest.asked) <= set(SMALL_IDS)


async def test_who_waits_for_what_a_batch_lacks_asks_further(
    world: World, clock: MockClock
) -> None:
    world.hinted("peer", *SMALL).delay_seconds = 0.01
    world.announced("last resort", ID, BLOCK)
    world.fetcher.bring([*SMALL_IDS[:10], ID], ORIGIN)
    assert await world.get() == BLOCK
    assert world.fetched[-1] == (ID, ORIGIN)


async def test_what_nobody_waits_for_is_not_looked_up_singly(
    world: World, clock: MockClock
) -> None:
    world.hinted("peer")
    world.fetcher.bring(SMALL_IDS, ORIGIN)
    await trio.sleep(FETCH_SECONDS)
    assert set(world.discovery.found) == {ROOT}
    assert world.fetcher.failures() == []
    assert len(world.fetcher._flights) == 0


async def test_a_liar_in_a_batch_is_left_and_another_peer_asked(
    world: World, clock: MockClock
) -> None:
    liar = world.hinted("liar", *SMALL)
    liar.is_lying = True
    world.hinted("peer", *SMALL)
    world.fetcher.bring(SMALL_IDS, ORIGIN)
    await trio.sleep(1)
    assert all(block_id in world.store for block_id in SMALL_IDS)


async def test_a_batch_that_stalls_keeps_its_readers_for_some_seconds_only(
    world: World, clock: MockClock
) -> None:
    world.hinted("silent", *SMALL).be_silent()
    world.hinted("peer", *SMALL)
    world.fetcher.bring(SMALL_IDS, ORIGIN)
    start = trio.current_time()
    assert await world.get(SMALL_IDS[0]) == SMALL[0]
    assert trio.current_time() - start < 12


async def test_who_waits_for_a_batch_in_vain_is_told_in_time_and_listed(
    world: World, clock: MockClock
) -> None:
    world.hinted("silent", *SMALL).be_silent()
    world.fetcher.bring(SMALL_IDS, ORIGIN)
    await trio.sleep(1)
    start = trio.current_time()
    assert isinstance(await world.outcome(SMALL_IDS[0]), PeerTimeout)
    assert trio.current_time() - start <= FETCH_SECONDS
    (failure,) = world.fetcher.failures()
    assert failure["block"] == str(SMALL_IDS[0])
    assert failure["asked"] == ["silent:4848"]


async def test_no_more_is_brought_at_one_time_than_may_be(world: World, clock: MockClock) -> None:
    world.hinted("silent").be_silent()
    for start in range(0, 10_000, 500):
        ids = [BlockId.of(b"%d" % number) for number in range(start, start + 500)]
        world.fetcher.bring(ids, ORIGIN)
    assert len(world.fetcher._flights) == fetching._MAX_FLIGHTS
    await trio.sleep(2 * FETCH_SECONDS)
    assert len(world.fetcher._flights) == 0

"""Peers that lie, let wait or stay away."""

import logging
import os

import pytest
import trio
from trio.testing import MockClock

from libernet.blocks.errors import (
    BlockCorrupt,
    BlockNotFound,
    NetworkError,
    PeerTimeout,
)
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.net.fetcher import FETCH_SECONDS
from tests.support.far import NETWORK_IS_DOWN
from tests.support.fetching import ABSENT, BLOCK, ID, ROOT, World


async def test_wrong_bytes_from_one_peer_are_right_bytes_from_another(
    world: World, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    liar = world.hinted("liar", BLOCK)
    liar.is_lying = True
    world.hinted("honest", BLOCK)
    assert await world.get() == BLOCK
    assert "peer liar:4848 is not asked for 300 s" in caplog.text
    assert "not block" in caplog.text
    for status in world.peers.status():
        assert (status["failed"], status["delivered"]) == (
            (1, 0) if status["address"] == "liar:4848" else (0, 1)
        )


async def test_a_liar_is_left_alone_and_asked_again_later(world: World, clock: MockClock) -> None:
    liar = world.hinted("peer", BLOCK)
    liar.is_lying = True
    assert isinstance(await world.outcome(), BlockCorrupt)
    assert isinstance(await world.outcome(), NetworkError)
    assert liar.asked == [ID]
    liar.is_lying = False
    await trio.sleep(301)
    assert await world.get() == BLOCK


async def test_a_peer_that_lets_wait_does_not_keep_others_from_being_asked(
    world: World, clock: MockClock
) -> None:
    for number in range(3):
        world.hinted(f"silent {number}", BLOCK).be_silent()
    world.hinted("peer", BLOCK)
    start = trio.current_time()
    assert await world.get() == BLOCK
    assert trio.current_time() - start < 1.5


@pytest.mark.parametrize("count", [4, 8, 16])
async def test_many_that_only_drip_do_not_keep_others_from_being_asked(
    world: World, clock: MockClock, count: int
) -> None:
    block, another = os.urandom(MAX_CHUNK_BYTES), os.urandom(MAX_CHUNK_BYTES)
    names = [f"dripping {number}" for number in range(count)]
    dripping = [world.announced(name, ROOT, block, another) for name in names]
    for each in dripping:
        each.drip_bytes_per_second = 20 * 1024
    world.announced("peer", ROOT, block, another)
    start = trio.current_time()
    assert await world.get(BlockId.of(block)) == block
    assert trio.current_time() - start < 1 + count
    for each in dripping:
        each.asked.clear()
    assert await world.get(BlockId.of(another)) == another
    assert not any(each.asked for each in dripping)


async def test_of_many_slow_ones_one_gives_a_block(world: World, clock: MockClock) -> None:
    block = os.urandom(MAX_CHUNK_BYTES)
    for number in range(24):
        world.announced(f"slow {number}", ROOT, block).drip_bytes_per_second = 100 * 1024
    start = trio.current_time()
    assert await world.get(BlockId.of(block)) == block
    assert trio.current_time() - start < 20  # one alone takes 10 s


async def test_who_let_a_reader_wait_is_asked_last_from_then_on(
    world: World, clock: MockClock
) -> None:
    silent = world.hinted("silent", BLOCK, b"other")
    silent.be_silent()
    world.hinted("peer", BLOCK, b"other")
    await world.get()
    silent.asked.clear()
    assert await world.get(BlockId.of(b"other"), None) == b"other"
    assert silent.asked == []


async def test_a_slow_peer_is_waited_for_when_there_is_no_other(
    world: World, clock: MockClock
) -> None:
    peer = world.hinted("peer", BLOCK)
    peer.delay_seconds = 9
    assert await world.get() == BLOCK


async def test_a_peer_that_starts_anew_is_waited_for(
    world: World, nursery: trio.Nursery, clock: MockClock
) -> None:
    peer = world.hinted("peer", BLOCK)
    peer.is_down = True

    async def start() -> None:
        await trio.sleep(5)
        peer.is_down = False

    nursery.start_soon(start)
    start_time = trio.current_time()
    assert await world.get() == BLOCK
    assert 5 <= trio.current_time() - start_time < 10


async def test_a_peer_that_stays_away_ends_fetches_sooner_and_sooner(
    world: World, clock: MockClock
) -> None:
    peer = world.hinted("peer", BLOCK)
    peer.is_down = True
    assert isinstance(await world.outcome(), NetworkError)
    assert isinstance(await world.outcome(), NetworkError)
    start = trio.current_time()
    assert isinstance(await world.outcome(), NetworkError)
    assert trio.current_time() == start
    assert peer.dials < 10


async def test_a_silent_network_ends_in_a_timeout(world: World, clock: MockClock) -> None:
    for number in range(6):
        world.hinted(f"silent {number}", BLOCK).be_silent()
    world.discovery.delay_seconds = 1000
    start = trio.current_time()
    assert isinstance(await world.outcome(), PeerTimeout)
    assert trio.current_time() - start <= FETCH_SECONDS


async def test_a_block_that_nobody_has_is_told_at_once(world: World, clock: MockClock) -> None:
    world.hinted("peer")
    start = trio.current_time()
    assert isinstance(await world.outcome(ABSENT), BlockNotFound)
    assert trio.current_time() - start < 1


async def test_a_discovery_that_fails_is_no_reason_not_to_ask_those_known(
    world: World, clock: MockClock
) -> None:
    world.discovery.error = NETWORK_IS_DOWN
    for number in range(6):
        world.hinted(f"stranger {number}")
    world.hinted("peer", BLOCK)
    assert await world.get() == BLOCK


async def test_a_peer_that_came_back_elsewhere_is_found_while_a_reader_waits(
    world: World, clock: MockClock
) -> None:
    world.announced("before", ROOT, BLOCK).be_down()

    async def move() -> None:
        await trio.sleep(12)
        world.announced("after", ROOT, BLOCK)

    world.nursery.start_soon(move)
    assert await world.get() == BLOCK
    assert 12 < trio.current_time() < FETCH_SECONDS
    assert world.discovery.found[ROOT] < 6


async def test_waiting_for_peers_that_rest_asks_discovery_now_and_then_only(
    world: World, clock: MockClock
) -> None:
    for number in range(20):
        world.announced(f"gone {number}", ROOT).be_down()
    assert isinstance(await world.outcome(), NetworkError)
    assert world.discovery.found.total() <= 20

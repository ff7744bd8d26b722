"""A file from several peers at once: each gives what it can, whatever becomes of the others."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from libernet.blocks.errors import LibernetError
from libernet.blocks.ids import BlockId
from libernet.net.exchange.pool import ClientLimits
from libernet.net.fetcher import FETCH_SECONDS
from tests.support.far import FarNode
from tests.support.fetching import ORIGIN, ROOT, World

READERS = 32
"""Blocks that are wanted at one time, as reading ahead does."""

BLOCK_BYTES = 128 * 1024
MEGABYTES_PER_SECOND = 1e6


@pytest.fixture(autouse=True)
def _no_threads(clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what threads do take no time: else the clock jumps on when one is slow to answer."""

    async def run_at_once(act: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return act(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_at_once)
    clock.autojump_threshold = 0


def make_blocks(count: int) -> list[bytes]:
    bits = random.Random(7)
    return [bits.randbytes(BLOCK_BYTES) for _ in range(count)]


def peer_at(world: World, name: str, megabytes_per_second: float, blocks: list[bytes]) -> FarNode:
    peer = world.hinted(name, *blocks)
    peer.bytes_per_second = megabytes_per_second * MEGABYTES_PER_SECOND
    peer.delay_seconds = 0.02
    return peer


class Reading:
    """A file that is read, READERS blocks at one time; `seconds` is how long that took."""

    def __init__(self, world: World, blocks: list[bytes]) -> None:
        self._world = world
        self._wanted = iter([BlockId.of(block) for block in blocks])
        self.came: set[BlockId] = set()
        self.errors: list[LibernetError] = []
        self.seconds = 0.0

    async def run(self) -> None:
        began = trio.current_time()
        async with trio.open_nursery() as readers:
            for _ in range(READERS):
                readers.start_soon(self._read)
        self.seconds = trio.current_time() - began

    async def _read(self) -> None:
        for block_id in self._wanted:
            outcome = await self._world.outcome(block_id)
            if isinstance(outcome, LibernetError):
                self.errors.append(outcome)
            elif BlockId.of(outcome) == block_id:
                self.came.add(block_id)


async def read(world: World, blocks: list[bytes]) -> Reading:
    reading = Reading(world, blocks)
    await reading.run()
    return reading


def megabytes(blocks: list[bytes]) -> float:
    return len(blocks) * BLOCK_BYTES / 1e6


async def test_four_peers_give_a_file_four_times_as_fast_as_one(
    world: World, clock: MockClock
) -> None:
    blocks = make_blocks(240)
    peers = [peer_at(world, f"peer {number}", 10, blocks) for number in range(4)]
    reading = await read(world, blocks)
    assert len(reading.came) == len(blocks)
    assert reading.seconds < megabytes(blocks) / 40 / 0.9
    assert sum(len(peer.asked) for peer in peers) < 1.05 * len(blocks)


async def test_hardly_a_block_is_asked_of_two_where_all_have_much_to_do(
    world: World, clock: MockClock
) -> None:
    bits = random.Random(8)
    blocks = [bits.randbytes(512 * 1024) for _ in range(160)]
    peers = [peer_at(world, f"peer {number}", 10, blocks) for number in range(4)]
    for peer in peers:
        peer.delay_seconds = 0.001
    reading = await read(world, blocks)
    assert len(reading.came) == len(blocks)
    assert sum(len(peer.asked) for peer in peers) < 1.1 * len(blocks)
    assert reading.seconds < len(blocks) * 0.512 * 1.024 / 40 / 0.9


async def test_each_peer_gives_in_proportion_to_how_fast_it_is(
    world: World, clock: MockClock
) -> None:
    blocks = make_blocks(240)
    fast = peer_at(world, "fast", 30, blocks)
    slow = peer_at(world, "slow", 5, blocks)
    reading = await read(world, blocks)
    assert reading.seconds < megabytes(blocks) / 35 / 0.8
    assert 3 < len(fast.asked) / len(slow.asked) < 12


async def test_one_slow_peer_among_fast_ones_holds_nobody_up(
    world: World, clock: MockClock
) -> None:
    blocks = make_blocks(180)
    for number in range(3):
        peer_at(world, f"fast {number}", 10, blocks)
    peer_at(world, "slow", 0.1, blocks)
    reading = await read(world, blocks)
    assert len(reading.came) == len(blocks)
    assert reading.seconds < megabytes(blocks) / 30 + 1


async def test_a_peer_that_becomes_slow_is_left_to_the_fast(world: World, clock: MockClock) -> None:
    blocks = make_blocks(240)
    tired = peer_at(world, "tired", 20, blocks)
    peer_at(world, "fast", 20, blocks)

    async with trio.open_nursery() as nursery:
        reading = Reading(world, blocks)
        nursery.start_soon(reading.run)
        await trio.sleep(1)
        tired.bytes_per_second = 0.05 * MEGABYTES_PER_SECOND
    assert len(reading.came) == len(blocks)
    assert reading.seconds < 1 + megabytes(blocks) / 20 + 2


async def test_a_peer_that_vanishes_in_the_middle_of_a_file_is_replaced(
    world: World, clock: MockClock
) -> None:
    blocks = make_blocks(240)
    peers = [peer_at(world, f"peer {number}", 10, blocks) for number in range(3)]

    async with trio.open_nursery() as nursery:
        reading = Reading(world, blocks)
        nursery.start_soon(reading.run)
        await trio.sleep(1)
        peers[0].be_silent()
    assert len(reading.came) == len(blocks)
    assert reading.seconds < megabytes(blocks) / 20 + 4


async def test_a_liar_among_honest_peers_is_found_out_and_left(
    world: World, clock: MockClock
) -> None:
    blocks = make_blocks(160)
    liar = peer_at(world, "liar", 100, blocks)
    liar.is_lying = True
    for number in range(2):
        peer_at(world, f"honest {number}", 20, blocks)
    reading = await read(world, blocks)
    assert len(reading.came) == len(blocks)
    assert len(liar.asked) <= READERS


async def test_when_all_die_and_one_comes_back_the_file_comes(
    world: World, clock: MockClock
) -> None:
    blocks = make_blocks(180)
    peers = [peer_at(world, f"peer {number}", 10, blocks) for number in range(3)]

    async with trio.open_nursery() as nursery:
        reading = Reading(world, blocks)
        nursery.start_soon(reading.run)
        await trio.sleep(1)
        for peer in peers:
            peer.be_down()
        await trio.sleep(8)
        peers[2].is_down = False
    assert len(reading.came) == len(blocks)
    assert reading.seconds < FETCH_SECONDS


async def test_when_all_die_for_good_nobody_waits_longer_than_the_deadline(
    world: World, clock: MockClock
) -> None:
    blocks = make_blocks(40)
    for number in range(3):
        peer_at(world, f"peer {number}", 10, blocks).be_silent()
    reading = Reading(world, blocks[:READERS])
    await reading.run()
    assert len(reading.errors) == READERS
    assert reading.seconds <= FETCH_SECONDS


async def test_others_who_announced_the_bundle_are_found_when_one_has_much_to_do(
    world: World, clock: MockClock
) -> None:
    blocks = make_blocks(160)
    known = peer_at(world, "known", 5, blocks)
    found = world.announced("found", ROOT, *blocks)
    found.bytes_per_second = 20 * MEGABYTES_PER_SECOND
    reading = await read(world, blocks)
    assert len(found.asked) > len(known.asked)
    assert reading.seconds < megabytes(blocks) / 5 / 2
    assert world.discovery.found[ROOT] <= 2


async def test_who_lacks_what_others_have_is_soon_not_asked_any_more(
    world: World, clock: MockClock
) -> None:
    blocks = make_blocks(100)
    empty = peer_at(world, "empty", 100, [])
    peer_at(world, "full", 50, blocks)
    for block in blocks:
        assert await world.get(BlockId.of(block), ORIGIN) == block
    assert len(empty.asked) + empty.dials < 10


async def test_more_is_read_ahead_of_the_fast_and_the_far_away(
    world: World, clock: MockClock
) -> None:
    assert world.fetcher.ahead_bytes(ORIGIN) == 0
    blocks = make_blocks(60)
    peer = peer_at(world, "peer", 5, blocks)
    await read(world, blocks[:20])
    slow_bytes = world.fetcher.ahead_bytes(ORIGIN)
    peer.bytes_per_second = 80 * MEGABYTES_PER_SECOND
    await read(world, blocks[20:])
    fast_bytes = world.fetcher.ahead_bytes(ORIGIN)
    assert 0 < slow_bytes < 8e6 < fast_bytes
    assert fast_bytes > 60 * MEGABYTES_PER_SECOND * 2 * peer.delay_seconds


async def test_however_much_is_wanted_no_peer_is_asked_more_at_one_time_than_fits_in_memory(
    world: World, clock: MockClock
) -> None:
    blocks = make_blocks(90)
    peers = [peer_at(world, f"peer {number}", 1000, blocks) for number in range(6)]
    for peer in peers:
        peer.be_silent()
    async with trio.open_nursery() as readers:
        for block in blocks:
            readers.start_soon(world.outcome, BlockId.of(block))
        await trio.sleep(8)
        asked = sum(len(peer.asked) for peer in peers)
        readers.cancel_scope.cancel()
    connections = ClientLimits().connections
    assert all(peer.dials <= connections for peer in peers)
    assert asked <= 6 * connections

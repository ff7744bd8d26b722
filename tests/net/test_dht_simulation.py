"""Networks of many nodes, on simulated wires and a clock that jumps.

`scripts/bench --only dht` measures the same with a thousand nodes.
"""

import asyncio

import pytest

from libernet.blocks.errors import DhtError
from libernet.net.dht.keys import KEY_BYTES
from libernet.net.dht.wire import MAX_DATAGRAM_BYTES
from libernet.net.discovery import RECORD_SECONDS
from tests.support.simulation import EXCHANGE_PORT, SimulatedNetwork, Wires, simulate

NODES = 60
KEYS = 30


async def announced(network: SimulatedNetwork) -> list[bytes]:
    """Return keys that random nodes have announced."""
    keys = [network.random.randbytes(KEY_BYTES) for _ in range(KEYS)]
    for key in keys:
        await network.random.choice(network.living()).announce(key, EXCHANGE_PORT, 1)
    return keys


async def find_all(network: SimulatedNetwork, keys: list[bytes]) -> tuple[int, float]:
    """Return how many of *keys* somebody else finds, and the longest time that one took."""
    found, longest = 0, 0.0
    for key in keys:
        others = [node for node in network.living() if not node.own.of(key)]
        began = network.loop.time()
        found += bool(await network.random.choice(others).find(key, 8))
        longest = max(longest, network.loop.time() - began)
    return found, longest


def test_what_is_announced_is_found_by_others_at_once() -> None:
    async def work(network: SimulatedNetwork) -> tuple[int, float]:
        found = await find_all(network, await announced(network))
        assert network.loop.longest_bytes <= MAX_DATAGRAM_BYTES
        return found

    found, longest = simulate(work, nodes=NODES)
    assert found == KEYS
    assert longest < 0.3


def test_it_is_found_with_half_of_the_nodes_dead() -> None:
    async def work(network: SimulatedNetwork) -> tuple[int, float]:
        keys = await announced(network)
        await network.kill_share(0.5)
        return await find_all(network, keys)

    found, longest = simulate(work, nodes=NODES)
    assert found == KEYS
    assert longest < 3


def test_what_nobody_announced_is_known_to_be_missing_soon_though_a_quarter_is_dead() -> None:
    async def work(network: SimulatedNetwork) -> list[float]:
        await network.kill_share(0.25)
        return [await miss(network) for _ in range(10)]

    async def miss(network: SimulatedNetwork) -> float:
        began = network.loop.time()
        key = network.random.randbytes(KEY_BYTES)
        assert await network.random.choice(network.living()).find(key, 8) == []
        return network.loop.time() - began

    assert max(simulate(work, nodes=NODES)) < 5


def test_joining_and_announcing_take_little() -> None:
    async def work(network: SimulatedNetwork) -> tuple[float, int]:
        seconds = await network.join()
        publisher = network.nodes[0]
        before = publisher.endpoint.counts["sent"]
        await publisher.announce(bytes(KEY_BYTES), EXCHANGE_PORT, 1)
        return seconds, publisher.endpoint.counts["sent"] - before

    seconds, requests = simulate(work, nodes=NODES)
    assert seconds < 1
    assert requests <= 60


def test_lost_datagrams_cost_time_and_nothing_else() -> None:
    async def work(network: SimulatedNetwork) -> tuple[int, float]:
        return await find_all(network, await announced(network))

    found, _ = simulate(work, nodes=NODES, wires=Wires(loss=0.05))
    assert found == KEYS


@pytest.mark.parametrize("is_silent", [True, False])
def test_records_end_a_day_after_their_publisher_fell_silent(is_silent: bool) -> None:
    async def work(network: SimulatedNetwork) -> int:
        publisher = network.nodes[-1]
        await publisher.announce(bytes(KEY_BYTES), EXCHANGE_PORT, 1)
        await asyncio.sleep(RECORD_SECONDS - 60)
        await network.tidy()
        assert network.records() >= 20
        if not is_silent:
            await publisher.announce(bytes(KEY_BYTES), EXCHANGE_PORT, 1)
        await asyncio.sleep(60 + 300)
        await network.tidy()
        return network.records()

    left = simulate(work, nodes=25)
    assert left == 0 if is_silent else left >= 20


def test_a_node_that_rests_sends_next_to_nothing() -> None:
    async def work(network: SimulatedNetwork) -> float:
        before = network.requests()["sent"]
        async with network.upkept():
            await asyncio.sleep(7200)
        return (network.requests()["sent"] - before) / 7200 / NODES

    assert 0 < simulate(work, nodes=NODES) < 1


def test_a_network_whose_nodes_are_all_gone_is_an_error_soon() -> None:
    async def work(network: SimulatedNetwork) -> float:
        lonely = network.nodes[0]
        await network.kill(*network.nodes[1:])
        began = network.loop.time()
        with pytest.raises(DhtError):
            await lonely.find(bytes(KEY_BYTES), 8)
        return network.loop.time() - began

    assert simulate(work, nodes=NODES) < 15

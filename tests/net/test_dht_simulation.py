"""Networks of many nodes, on simulated wires and a clock that jumps.

`scripts/bench --only dht` measures the same with a thousand nodes.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from libernet.blocks.errors import DhtError
from libernet.net.dht.keys import KEY_BYTES
from libernet.net.dht.neighbourhood import REPLICAS
from libernet.net.dht.node import DhtNode
from libernet.net.dht.table import BUCKET_CONTACTS
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


async def find_all(
    network: SimulatedNetwork, keys: list[bytes], *, but: DhtNode | None = None
) -> int:
    """Return how many of *keys* a random node finds that did not announce it."""
    found = 0
    for key in keys:
        others = [node for node in network.living() if node is not but and not node.own.of(key)]
        found += bool(await network.random.choice(others).find(key, 8))
    return found


async def timed(network: SimulatedNetwork, work: Coroutine[Any, Any, int]) -> tuple[int, float]:
    began = network.loop.time()
    return await work, network.loop.time() - began


def test_what_is_announced_is_found_by_others_at_once() -> None:
    async def work(network: SimulatedNetwork) -> tuple[int, float]:
        found = await timed(network, find_all(network, await announced(network)))
        assert network.loop.longest_bytes <= MAX_DATAGRAM_BYTES
        return found

    found, seconds = simulate(work, nodes=NODES)
    assert found == KEYS
    assert seconds / KEYS < 0.2


def test_it_is_found_with_half_of_the_nodes_dead() -> None:
    async def work(network: SimulatedNetwork) -> tuple[int, float]:
        keys = await announced(network)
        await network.kill_share(0.5)
        return await timed(network, find_all(network, keys))

    found, seconds = simulate(work, nodes=NODES)
    assert found == KEYS
    assert seconds / KEYS < 0.5


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


async def swept(network: SimulatedNetwork, count: int) -> tuple[list[bytes], float]:
    """Return keys that the first node announced by sweep, and what each took in requests."""
    publisher = network.nodes[0]
    keys = rest = sorted(network.random.randbytes(KEY_BYTES) for _ in range(count))
    before = publisher.endpoint.counts["sent"]
    while rest:
        told = await publisher.sweep(rest, EXCHANGE_PORT, 1)
        rest = rest[told.keys :]
    return keys, (publisher.endpoint.counts["sent"] - before) / count


def keepers(network: SimulatedNetwork, key: bytes) -> set[DhtNode]:
    return {node for node in network.living() if node.responder.providers.find(key, 1)}


def test_a_sweep_leaves_records_at_the_nearest_nodes_for_a_fraction_of_a_request_each() -> None:
    async def work(network: SimulatedNetwork) -> float:
        keys, requests = await swept(network, 1000)
        for key in keys[::20]:
            target = int.from_bytes(key)
            others = network.nodes[1:]
            others.sort(key=lambda node: int.from_bytes(node.identity.node_id) ^ target)
            told = keepers(network, key)
            assert len(told) == REPLICAS
            assert set(others[: REPLICAS // 2]) <= told <= set(others[:BUCKET_CONTACTS])
        assert await find_all(network, keys[:KEYS], but=network.nodes[0]) == KEYS
        await network.kill_share(0.5)
        assert await find_all(network, keys[-KEYS:], but=network.nodes[0]) == KEYS
        assert network.loop.longest_bytes <= MAX_DATAGRAM_BYTES
        return requests

    assert simulate(work, nodes=NODES) < 0.5


def test_what_was_swept_can_be_swept_away() -> None:
    async def work(network: SimulatedNetwork) -> int:
        keys, _ = await swept(network, 100)
        rest = keys[::2]
        while rest:
            told = await network.nodes[0].sweep_away(rest, EXCHANGE_PORT)
            rest = rest[told.keys :]
        assert all(len(keepers(network, key)) == REPLICAS for key in keys[1::2])
        return network.records()

    # Where other nodes are found around another first key, a few stay until they end.
    assert 50 * REPLICAS <= simulate(work, nodes=NODES) < 52 * REPLICAS


def test_a_sweep_bears_lost_datagrams() -> None:
    async def work(network: SimulatedNetwork) -> int:
        keys, _ = await swept(network, 200)
        return min(len(keepers(network, key)) for key in keys)

    assert simulate(work, nodes=NODES, wires=Wires(loss=0.05)) >= REPLICAS // 2


def test_a_sweep_among_the_dead_is_an_error() -> None:
    async def work(network: SimulatedNetwork) -> None:
        await network.kill(*network.nodes[1:])
        with pytest.raises(DhtError):
            await network.nodes[0].sweep([bytes(KEY_BYTES)], EXCHANGE_PORT, 1)

    simulate(work, nodes=30)


def test_lost_datagrams_cost_time_and_nothing_else() -> None:
    async def work(network: SimulatedNetwork) -> int:
        return await find_all(network, await announced(network))

    assert simulate(work, nodes=NODES, wires=Wires(loss=0.05)) == KEYS


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

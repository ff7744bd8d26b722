"""What every discovery promises: the one in memory and the DHT on loopback."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import trio

from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.discovery import HTTP_EXCHANGE, Discovery
from libernet.net.memory import MemoryNetwork
from tests.support.dht import LOOPBACK, discovery, running, until

NODES = 5
BLOCK = BlockId.of(b"a block")
OTHER_BLOCK = BlockId.of(b"another block")


@dataclass(frozen=True)
class World:
    """Nodes that can find each other."""

    nodes: list[Discovery]
    addresses: list[PeerAddress]

    async def found(self, node: int, block_id: BlockId = BLOCK, *, want: int = 8) -> set[int]:
        """Return which nodes that node finds, by number."""
        providers = await self.nodes[node].find(block_id, want=want)
        numbers = [self.addresses.index(provider.address) for provider in providers]
        assert len(set(numbers)) == len(numbers)
        return set(numbers)


@pytest.fixture(params=["memory", "dht"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    addresses = [PeerAddress(LOOPBACK, 20_000 + number) for number in range(NODES)]
    if request.param == "memory":
        network = MemoryNetwork()
        yield World([network.node(address) for address in addresses], addresses)
    else:
        async with contextlib.AsyncExitStack() as stack:
            first = await stack.enter_async_context(running(discovery(addresses[0].port)))
            nodes = [first]
            for address in addresses[1:]:
                node = discovery(address.port, first.udp_port)
                nodes.append(await stack.enter_async_context(running(node)))
            await until(lambda: all(each.status()["contacts"] == NODES - 1 for each in nodes))
            yield World(nodes, addresses)


async def test_what_one_node_announces_the_others_find(world: World) -> None:
    await world.nodes[1].announce(BLOCK)
    for number in (0, 2, 3, 4):
        assert 1 in await world.found(number)


async def test_all_providers_of_a_block_are_found_together(world: World) -> None:
    for number in (0, 1, 2, 3):
        await world.nodes[number].announce(BLOCK)
    assert await world.found(4) == {0, 1, 2, 3}


async def test_a_node_does_not_find_itself(world: World) -> None:
    await world.nodes[1].announce(BLOCK)
    assert 1 not in await world.found(1)


async def test_a_provider_says_that_it_speaks_http(world: World) -> None:
    await world.nodes[1].announce(BLOCK)
    providers = await world.nodes[2].find(BLOCK)
    assert {each.flags & HTTP_EXCHANGE for each in providers} == {HTTP_EXCHANGE}
    assert {each.version for each in providers} <= {1, 2}


async def test_announcing_again_changes_nothing(world: World) -> None:
    for _ in range(3):
        await world.nodes[1].announce(BLOCK)
    await world.nodes[2].announce(BLOCK)
    assert {1, 2} <= await world.found(4)


async def test_a_block_that_nobody_announced_has_no_providers(world: World) -> None:
    await world.nodes[1].announce(OTHER_BLOCK)
    assert await world.found(0) == set()


async def test_what_was_withdrawn_is_found_no_more(world: World) -> None:
    await world.nodes[1].announce(BLOCK)
    await world.nodes[2].announce(BLOCK)
    await world.nodes[1].withdraw(BLOCK)
    assert [await world.found(number) for number in (0, 1, 3, 4)] == [{2}] * 4


async def test_withdrawing_what_was_never_announced_is_no_error(world: World) -> None:
    await world.nodes[1].withdraw(BLOCK)


async def test_with_one_provider_wanted_one_is_enough(world: World) -> None:
    for number in (1, 2, 3):
        await world.nodes[number].announce(BLOCK)
    assert await world.found(0, want=1)


async def test_many_finds_at_once_all_end(world: World) -> None:
    await world.nodes[1].announce(BLOCK)
    found: list[set[int]] = []

    async def find() -> None:
        found.append(await world.found(0))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(find)
    assert [1 in each for each in found] == [True] * 50


@pytest.mark.parametrize("call", ["find", "announce", "withdraw"])
async def test_each_call_can_be_cancelled(world: World, call: str) -> None:
    with trio.move_on_after(0) as scope:
        await getattr(world.nodes[1], call)(BLOCK)
    assert scope.cancelled_caught


async def test_other_nodes_are_hinted_at_each_once_and_never_oneself(world: World) -> None:
    hints = world.nodes[1].peers_hint()
    assert sorted(map(str, hints)) == [str(world.addresses[number]) for number in (0, 2, 3, 4)]


async def test_the_status_can_be_printed_as_json(world: World) -> None:
    assert json.loads(json.dumps(world.nodes[1].status()))["kind"] in ("memory", "dht")

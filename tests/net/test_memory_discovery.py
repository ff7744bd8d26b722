"""The discovery that other tests stand on: its clock, its delay and its faults."""

import pytest
import trio
import trio.testing

from libernet.blocks.errors import DhtError
from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.discovery import RECORD_SECONDS
from libernet.net.memory import MemoryNetwork

BLOCK = BlockId.of(b"a block")
HERE, THERE = PeerAddress("127.0.0.1", 1), PeerAddress("127.0.0.1", 2)


async def test_an_announcement_ends_after_a_day(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    here, there = network.node(HERE), network.node(THERE)
    await here.announce(BLOCK)
    await trio.sleep(RECORD_SECONDS - 1)
    assert [each.address for each in await there.find(BLOCK)] == [HERE]
    await trio.sleep(1)
    assert await there.find(BLOCK) == []


async def test_each_call_takes_the_delay_and_keeps_a_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = MemoryNetwork(delay_seconds=0.2)
    node = network.node(HERE)
    start = trio.current_time()
    await node.find(BLOCK)
    assert trio.current_time() == start + 0.2
    with pytest.raises(trio.TooSlowError), trio.fail_after(0.1):
        await node.announce(BLOCK)
    assert network.providers(BLOCK) == []


async def test_while_the_network_is_down_every_call_fails() -> None:
    network = MemoryNetwork()
    node = network.node(HERE)
    network.is_down = True
    for call in (node.find, node.announce, node.withdraw):
        with pytest.raises(DhtError):
            await call(BLOCK)

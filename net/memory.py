"""Discovery without a network: nodes of one process that share a table, for tests."""

from typing import Any

import trio

from libernet.blocks.errors import DhtError
from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.discovery import (
    HTTP_EXCHANGE,
    RECORD_SECONDS,
    WANTED_PROVIDERS,
    Provider,
)


class MemoryNetwork:
    """What the nodes of one test share.

    State: each announcement's provider and its end on trio's clock; all nodes that were made.
    *delay_seconds* is what each call takes, *is_down* makes each call fail; both may be changed
    at any time.
    """

    def __init__(self, *, delay_seconds: float = 0.0) -> None:
        self.delay_seconds = delay_seconds
        self.is_down = False
        self.nodes: list[PeerAddress] = []
        self._ends: dict[BlockId, dict[Provider, float]] = {}

    def node(self, address: PeerAddress, *, flags: int = HTTP_EXCHANGE) -> "MemoryDiscovery":
        """Return a new node of this network, which announces *address*."""
        self.nodes.append(address)
        return MemoryDiscovery(self, Provider(address, flags))

    def add(self, block_id: BlockId, provider: Provider) -> None:
        """Take in an announcement."""
        end = trio.current_time() + RECORD_SECONDS
        self._ends.setdefault(block_id, {})[provider] = end

    def discard(self, block_id: BlockId, provider: Provider) -> None:
        """Forget an announcement, if there is one."""
        self._ends.get(block_id, {}).pop(provider, None)

    def providers(self, block_id: BlockId) -> list[Provider]:
        """Return who announced the block and has not been forgotten."""
        now = trio.current_time()
        return [each for each, end in self._ends.get(block_id, {}).items() if end > now]

    async def trip(self) -> None:
        """Take as long as a call takes; DhtError while the network is down."""
        await trio.sleep(self.delay_seconds)
        if self.is_down:
            raise DhtError("the network in memory is switched off")


class MemoryDiscovery:
    """One node's sight of a MemoryNetwork. Behaves as libernet.net.discovery.Discovery says."""

    def __init__(self, network: MemoryNetwork, provider: Provider) -> None:
        self._network = network
        self._provider = provider

    async def announce(self, block_id: BlockId) -> None:
        """Put this node's record into the table."""
        await self._network.trip()
        self._network.add(block_id, self._provider)

    async def withdraw(self, block_id: BlockId) -> None:
        """Take this node's record out of the table."""
        await self._network.trip()
        self._network.discard(block_id, self._provider)

    async def find(self, block_id: BlockId, *, want: int = WANTED_PROVIDERS) -> list[Provider]:
        """Return all others that announced the block."""
        await self._network.trip()
        return [each for each in self._network.providers(block_id) if each != self._provider]

    def peers_hint(self) -> list[PeerAddress]:
        """Return all other nodes."""
        return [each for each in self._network.nodes if each != self._provider.address]

    def status(self) -> dict[str, Any]:
        """Return how many others there are."""
        return {"kind": "memory", "peers": len(self.peers_hint())}

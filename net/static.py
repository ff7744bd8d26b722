"""Discovery by a list that a person wrote: peers that may have anything."""

from collections.abc import Iterable
from typing import Any

import trio

from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.discovery import HTTP_EXCHANGE, WANTED_PROVIDERS, Provider


class StaticDiscovery:
    """Name the same peers for every block; announcements go nowhere.

    Whether a peer has a block is found out by asking it. Behaves otherwise as
    libernet.net.discovery.Discovery says.
    """

    def __init__(self, peers: Iterable[PeerAddress]) -> None:
        self._peers = tuple(dict.fromkeys(peers))

    async def announce(self, block_id: BlockId) -> None:
        """Do nothing: whoever wrote this node in a list of its own asks it anyway."""
        await trio.lowlevel.checkpoint()

    async def withdraw(self, block_id: BlockId) -> None:
        """Do nothing, as nothing was announced."""
        await trio.lowlevel.checkpoint()

    async def find(self, block_id: BlockId, *, want: int = WANTED_PROVIDERS) -> list[Provider]:
        """Return every peer of the list, whatever the block."""
        await trio.lowlevel.checkpoint()
        return [Provider(address, HTTP_EXCHANGE) for address in self._peers]

    def peers_hint(self) -> list[PeerAddress]:
        """Return every peer of the list."""
        return list(self._peers)

    def status(self) -> dict[str, Any]:
        """Return the list."""
        return {"kind": "static", "peers": [str(address) for address in self._peers]}

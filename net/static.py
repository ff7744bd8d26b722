"""Discovery by a list of peers that may have anything: one that a person wrote, or a remembered
one."""

from collections.abc import Iterable
from typing import Any

import trio

from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress
from libernet.net.discovery import WANTED_PROVIDERS, Provider


class StaticDiscovery:
    """Hint at the same peers whatever is wanted; announcements go nowhere.

    Whether a peer has a block is found out by asking it. Behaves otherwise as
    libernet.net.discovery.Discovery says.
    """

    def __init__(self, peers: Iterable[PeerAddress], *, kind: str = "static") -> None:
        """Hint at *peers*, the best first; *kind* says in the status what list this is."""
        self._peers = tuple(dict.fromkeys(peers))
        self._kind = kind

    async def announce(self, block_id: BlockId) -> None:
        """Do nothing: whoever wrote this node in a list of its own asks it anyway."""
        await trio.lowlevel.checkpoint()

    async def withdraw(self, block_id: BlockId) -> None:
        """Do nothing, as nothing was announced."""
        await trio.lowlevel.checkpoint()

    async def find(self, block_id: BlockId, *, want: int = WANTED_PROVIDERS) -> list[Provider]:
        """Return nobody: none of them announced anything here, they are only hinted at."""
        await trio.lowlevel.checkpoint()
        return []

    def peers_hint(self) -> list[PeerAddress]:
        """Return every peer of the list."""
        return list(self._peers)

    def status(self) -> dict[str, Any]:
        """Return the list."""
        return {"kind": self._kind, "peers": [str(address) for address in self._peers]}

"""Finding out who has a block: the interface, and the words that all kinds of it share."""

from dataclasses import dataclass
from typing import Any, Protocol

from libernet.blocks.ids import BlockId
from libernet.net.address import PeerAddress

HTTP_EXCHANGE = 1
"""Protocol flag: the provider answers GET and HEAD /sha256/{id} at its address."""

RECORD_SECONDS = 24 * 3600.0
"""How long an announcement lasts; only its maker can make it last longer, by a new one."""

ANNOUNCE_AGAIN_SECONDS = 22 * 3600.0
"""When to announce again: early enough that a try or two may fail before the record ends."""

WANTED_PROVIDERS = 8
"""How many providers are enough, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A node that announced a block, and where it can be asked for it.

    *flags* say which protocols it speaks there (HTTP_EXCHANGE), *version* is that of its record,
    *peer_id* the public key that signed it, if any. Nobody vouches for the others: what a provider
    sends is checked against the block's id.
    """

    address: PeerAddress
    flags: int = 0
    version: int = 1
    peer_id: bytes | None = None

    @property
    def is_verified(self) -> bool:
        """Say whether the holder of *peer_id* said itself that it is here and has the block."""
        return self.peer_id is not None


class Discovery(Protocol):
    """Anything that knows who has a block.

    Each call may be cancelled at any moment, and leaves nothing behind then. Those that wait for
    the network raise DhtError, or another NetworkError, when it cannot be asked at all.
    """

    async def announce(self, block_id: BlockId) -> None:
        """Let others know that this node has the block, for RECORD_SECONDS from now.

        When it raises, nobody who can be relied on knows: try again later.
        """
        ...

    async def withdraw(self, block_id: BlockId) -> None:
        """Take an announcement back, as well as that can be done; one never made is no error."""
        ...

    async def find(self, block_id: BlockId, *, want: int = WANTED_PROVIDERS) -> list[Provider]:
        """Return other nodes that announced the block, each address once, in no certain order.

        Ends as soon as *want* are known, and may return more; an empty list means that nobody
        who was asked knows any.
        """
        ...

    def peers_hint(self) -> list[PeerAddress]:
        """Return addresses of other nodes that are worth asking for anything, best first."""
        ...

    def status(self) -> dict[str, Any]:
        """Return what a person may want to know about it, as plain values for JSON."""
        ...

"""What a node tells the network and asks of it, as callables: this wing does not import `net`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from libernet.blocks.errors import NetworkError
from libernet.blocks.ids import BlockId


def _nothing(block_id: BlockId) -> None:
    """Tell nobody."""


async def _no_network(identifier: bytes, number: int) -> Any:
    raise NetworkError("there is no network")


@dataclass(frozen=True, slots=True)
class Outside:
    """The network as the rest of the node sees it; by default there is none.

    `announce` and `withdraw` are told the ids of roots that others may look for, or no longer;
    `announce_identifier` and `find_identifier` do in the DHT what other programs want of it.
    `status` returns plain values for JSON, by the keys that `net/README.md` lists.
    """

    announce: Callable[[BlockId], None] = field(default=_nothing)
    withdraw: Callable[[BlockId], None] = field(default=_nothing)
    status: Callable[[], dict[str, Any]] = field(default=dict)
    announce_identifier: Callable[[bytes, int], Awaitable[int]] = field(default=_no_network)
    find_identifier: Callable[[bytes, int], Awaitable[list[str]]] = field(default=_no_network)

"""What a node tells the network and asks of it, as callables: this wing does not import `net`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from libernet.blocks.ids import BlockId


def _nothing(block_id: BlockId) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The network as the rest of the node sees it; by default there is none.

    `announce` and `withdraw` are told the ids of roots that others may look for, or no longer;
    `status` returns plain values for JSON: listening, peers, not_announced, failures.
    """

    announce: Callable[[BlockId], None] = field(default=_nothing)
    withdraw: Callable[[BlockId], None] = field(default=_nothing)
    status: Callable[[], dict[str, Any]] = field(default=dict)

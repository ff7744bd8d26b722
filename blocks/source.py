"""Where blocks come from, as everything above the store sees it."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from libernet.blocks.ids import BlockId

T = TypeVar("T")


class BlockSource(Protocol):
    """Anything that can be asked for a block: the local store, or the network behind it."""

    async def get(self, block_id: BlockId, use: Callable[[bytes], T]) -> T:
        """Return what *use* makes of the block, which was checked against its id before.

        *use* is called where the block is, perhaps in another thread: a hop there costs more than
        most uses do. Raises BlockNotFound when nobody has the block right now, BlockCorrupt when
        only wrong bytes are to be had, and what *use* raises.
        """
        ...

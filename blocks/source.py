"""Where blocks come from, as everything above the store sees it."""

from typing import Protocol

from libernet.blocks.ids import BlockId


class BlockSource(Protocol):
    """Anything that can be asked for a block: the local store, or the network behind it."""

    async def get(self, block_id: BlockId) -> bytes:
        """Return the block, already checked against its id.

        Raises BlockNotFound when nobody has it right now, BlockCorrupt when only wrong bytes
        are to be had.
        """
        ...

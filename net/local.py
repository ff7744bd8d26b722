"""The source of blocks that asks nobody else."""

import trio

from libernet.blocks.ids import BlockId
from libernet.blocks.store import Store


class LocalSource:
    """Blocks of the local store: small ones at once, large ones by way of a thread.

    Fetching from peers will stand behind the same protocol (libernet.blocks.source.BlockSource).
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, block_id: BlockId) -> bytes:
        """Return the block; BlockNotFound when the store has none, BlockCorrupt when it rotted."""
        if self._store.is_small(block_id):
            return self._store.get(block_id)
        return await trio.to_thread.run_sync(self._store.get, block_id)

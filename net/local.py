"""The source of blocks that asks nobody else."""

from collections.abc import Callable
from typing import TypeVar

import trio

from libernet.blocks.ids import BlockId
from libernet.blocks.store import Store

T = TypeVar("T")


class LocalSource:
    """Blocks of the local store: small ones at once, large ones in a thread.

    Fetching from peers will stand behind the same protocol (libernet.blocks.source.BlockSource).
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, block_id: BlockId, use: Callable[[bytes], T]) -> T:
        """Return what *use* makes of the block; BlockNotFound when the store has none."""

        def read() -> T:
            return use(self._store.get(block_id))

        if self._store.is_small(block_id):
            return read()
        return await trio.to_thread.run_sync(read)

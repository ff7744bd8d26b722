"""The source of blocks that asks nobody else."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import trio

from libernet.blocks.ids import BlockId, StoredId
from libernet.blocks.source import Origin
from libernet.blocks.store import Store

T = TypeVar("T")

_THREADS = 4  # reading at one time: more would only take each other's turns on two cores


class LocalSource:
    """Blocks of the local store: small ones at once, large ones in a thread.

    Fetching from peers will stand behind the same protocol (libernet.blocks.source.BlockSource).
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = trio.CapacityLimiter(_THREADS)

    async def get(
        self,
        block_id: StoredId,
        use: Callable[[bytes], T],
        origin: Origin | None = None,
        *,
        ahead: bool = False,
    ) -> T:
        """Return what *use* makes of the block; BlockNotFound when the store has none."""
        entry = self._store.find(block_id)

        def read() -> T:
            return use(self._store.read(entry))

        if not entry.in_file:
            return read()
        return await trio.to_thread.run_sync(read, limiter=self._threads)

    def bring(self, block_ids: Sequence[BlockId], origin: Origin) -> None:
        """Do nothing: there is nowhere to bring blocks from."""

    def ahead_bytes(self, origin: Origin | None) -> int:
        """Return 0: nobody has to be kept busy."""
        return 0

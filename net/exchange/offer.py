"""What a node gives to its peers."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from libernet.blocks.errors import BlockCorrupt, BlockNotFound
from libernet.blocks.ids import BlockId, StoredId
from libernet.blocks.like_suffix import common_bits
from libernet.blocks.store import Store
from libernet.net.traffic import Traffic

LIKE_BITS = 12
"""Leading bits that a block's id has in common with another one to be like it: the original looks
no further, and its backup tool fetches all that it is told of."""

READING_THREADS = 4
"""Threads that read for peers at one time: however many peers ask, the mount's own reads find
threads and disk free."""


class Offer(Protocol):
    """Decide which blocks peers may have, and read them."""

    async def size(self, block_id: StoredId) -> int | None:
        """Return how many bytes the block has, None when it is not here or not for peers."""
        ...

    async def read(self, block_id: StoredId) -> bytes | None:
        """Return the block, checked against its id, None when it is not here or not for peers.

        Raises StoreError when the store cannot say.
        """
        ...

    async def like(self, target: BlockId) -> list[tuple[BlockId, int]]:
        """Return the public blocks with ids most like *target*, best first, with their sizes."""
        ...

    async def tells(self, block_id: BlockId) -> bool:
        """Say whether the block is here and public or kept for others."""
        ...


async def everything(block_id: StoredId) -> bool:
    """Let peers have any block: who knows an id has been told it by someone who may."""
    return True


class StoreOffer:
    """Blocks of the local store that *may_serve* agrees to.

    State: `served`, the blocks that were read for peers.
    """

    def __init__(
        self, store: Store, may_serve: Callable[[StoredId], Awaitable[bool]] = everything
    ) -> None:
        self.served = Traffic()
        self._store = store
        self._may_serve = may_serve
        self._threads = trio.CapacityLimiter(READING_THREADS)

    async def size(self, block_id: StoredId) -> int | None:
        """Return the size from the store's index; the block itself is not looked at."""
        return self._store.size(block_id) if await self._may_serve(block_id) else None

    async def read(self, block_id: StoredId) -> bytes | None:
        """Return the block; a damaged one is set aside by the store and counts as absent."""
        if not await self._may_serve(block_id):
            return None
        try:
            block = await self._read(block_id)
        except (BlockNotFound, BlockCorrupt):
            return None
        if block is not None:
            self.served.add(1, len(block))
        return block

    async def like(self, target: BlockId) -> list[tuple[BlockId, int]]:
        """Return what the store speaks of: nobody learns of private blocks."""
        return [
            (block_id, size_bytes)
            for block_id, size_bytes in self._store.like.best(target)
            if common_bits(block_id, target) >= LIKE_BITS and await self._may_serve(block_id)
        ]

    async def tells(self, block_id: BlockId) -> bool:
        """Say of which blocks the store speaks: who asks about many learns of no private one."""
        return self._store.like.tells(block_id) and await self._may_serve(block_id)

    async def _read(self, block_id: StoredId) -> bytes | None:
        if self._store.is_small(block_id):
            return self._store.get(block_id)
        if block_id not in self._store:
            return None  # without a hop to a thread: anybody may ask for anything
        return await trio.to_thread.run_sync(self._store.get, block_id, limiter=self._threads)

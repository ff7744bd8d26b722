"""Blocks by their addresses, as they are stored or opened, for views that show them."""

from collections.abc import Callable

from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.source import BlockSource
from libernet.fs.chunks import ChunkCache


class AddressedBlocks:
    """Blocks from wherever they come from; *like* finds ids of which everybody may be told."""

    def __init__(
        self,
        source: BlockSource,
        chunks: ChunkCache,
        like: Callable[[BlockId], list[tuple[BlockId, int]]],
    ) -> None:
        self._source = source
        self._chunks = chunks
        self.like = like

    async def get(self, reference: Reference) -> bytes:
        """Return the block as it is stored, or what it holds if the reference has a key.

        Raises BlockNotFound, BlockCorrupt or a NetworkError when it cannot be had.
        """
        if reference.suite is Suite.PLAIN:
            return await self._source.get(reference.id, bytes)
        return await self._chunks.get(reference.block)

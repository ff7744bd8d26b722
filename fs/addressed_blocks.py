"""Blocks by their addresses, as they are stored or opened, for views that show them."""

from collections.abc import Callable

from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference
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

    async def stored(self, block_id: BlockId) -> bytes:
        """Return a block as it is stored.

        Raises BlockNotFound, BlockCorrupt or a NetworkError when it cannot be had.
        """
        return await self._source.get(block_id, bytes)

    async def opened(self, reference: Reference) -> bytes:
        """Return what a block holds; raises what `stored` does."""
        return await self._chunks.get(reference.block)

"""Reading the bytes that extents name, synchronously, for work done in threads."""

from collections.abc import Sequence

from typing_extensions import Buffer

from libernet.blocks.reference import Reference
from libernet.blocks.sealing import unseal
from libernet.blocks.store import Store
from libernet.fs.content import Extent, clipped
from libernet.fs.datalog import DataLog


class PieceReader:
    """Read extents from memory, the data log or the store; any thread may."""

    def __init__(self, log: DataLog, store: Store) -> None:
        self._log = log
        self._store = store

    def chunk(self, reference: Reference) -> bytes:
        """Return a chunk out of the store; BlockNotFound or BlockCorrupt when it has none."""
        return unseal(reference, self._store.get(reference.id))

    def range(self, extents: Sequence[Extent], start: int, end: int) -> Buffer:
        """Return the bytes of a file from *start* to *end*, zeros where no extent is.

        Pieces in memory must not grow any more: what is returned may be a view of one.
        """
        parts = clipped(extents, start, end)
        if len(parts) == 1 and parts[0].length == end - start:
            return self._extent(parts[0])
        content = bytearray(end - start)
        for extent in parts:
            at = extent.offset - start
            content[at : at + extent.length] = self._extent(extent)
        return content

    def _extent(self, extent: Extent) -> bytes | memoryview:
        piece = extent.piece
        buffer = piece.buffer
        if buffer is not None:
            return memoryview(buffer)[extent.skip : extent.skip + extent.length]
        if piece.log is not None:
            return self._log.read(piece.log, extent.skip, extent.length)
        assert piece.chunk is not None
        return self.chunk(piece.chunk)[extent.skip : extent.skip + extent.length]

"""Where the bytes of a file are: in memory, in the data log, or in sealed chunks.

A ContentMap tells for each range of a file which piece holds it. Gaps are holes and read as
zeros. Pieces are shared by value of identity: a range is unchanged exactly when it still shows
the same pieces.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

import msgspec
from typing_extensions import Buffer

from libernet.blocks.reference import Reference


class LogPlace(msgspec.Struct, frozen=True, gc=False):
    """A record of the data log: its segment and the position of its header in it."""

    segment: int
    position: int


class Piece:
    """Bytes that ranges of a file refer to; exactly one backing is set.

    State
      buffer  not yet durable; a bytearray grows at its end while `growing`
      log     durable in the data log; takes over from `buffer` when a checkpoint commits
      chunk   sealed; set from the start and for ever
      length  bytes in it; only a growing piece changes it
    A thread that reads a piece looks at `buffer` once and first: `log` is set before it goes.
    """

    __slots__ = ("buffer", "chunk", "growing", "length", "log")

    def __init__(
        self,
        length: int,
        *,
        buffer: Buffer | None = None,
        log: LogPlace | None = None,
        chunk: Reference | None = None,
    ) -> None:
        self.length = length
        self.buffer = buffer
        self.log = log
        self.chunk = chunk
        self.growing = isinstance(buffer, bytearray)

    def became_durable(self, place: LogPlace) -> None:
        """Let the data log stand in for the bytes in memory."""
        self.log = place
        self.growing = False
        self.buffer = None


class Extent(msgspec.Struct, frozen=True, gc=False):
    """A range of a file: `length` bytes at `offset`, found `skip` bytes into `piece`."""

    offset: int
    length: int
    piece: Piece
    skip: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.length

    @property
    def is_whole_chunk(self) -> bool:
        """Whether the range is one sealed chunk, all of it."""
        return self.piece.chunk is not None and self.length == self.piece.length

    def clipped(self, start: int, end: int) -> "Extent":
        """Return the part between *start* and *end*, which must overlap it."""
        if start <= self.offset and end >= self.end:
            return self
        start, end = max(start, self.offset), min(end, self.end)
        return Extent(start, end - start, self.piece, self.skip + start - self.offset)


def clipped(extents: Iterable[Extent], start: int, end: int) -> list[Extent]:
    """Return what of *extents* is between *start* and *end*."""
    return [
        extent.clipped(start, end)
        for extent in extents
        if extent.offset < end and extent.end > start
    ]


class ContentMap:
    """The extents of one file.

    State
      _extents       ascending, without overlap, none empty
      _starts        their offsets, for bisection
      touched        offsets at which an extent came, went or changed since they were last taken
      memory_bytes   bytes of the file that only memory holds
      stored_bytes   bytes of the file that are in no hole
    """

    __slots__ = ("_extents", "_starts", "memory_bytes", "stored_bytes", "touched")

    def __init__(self, extents: list[Extent] | None = None) -> None:
        self._extents = extents or []
        self._starts = [extent.offset for extent in self._extents]
        self.touched: set[int] = set()
        self.memory_bytes = 0
        self.stored_bytes = _length(self._extents)

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._extents)

    def __len__(self) -> int:
        return len(self._extents)

    def at(self, offset: int) -> Extent | None:
        """Return the extent that starts at *offset* exactly."""
        index = bisect_left(self._starts, offset)
        if index < len(self._starts) and self._starts[index] == offset:
            return self._extents[index]
        return None

    def covering(self, start: int, end: int) -> list[Extent]:
        """Return the extents between *start* and *end*, clipped to that range."""
        if start >= end:
            return []
        first, last = self._overlap(start, end)
        return [extent.clipped(start, end) for extent in self._extents[first:last]]

    def write(self, offset: int, data: bytes) -> Extent:
        """Put *data* at *offset* and return the extent that now ends with it."""
        grown = self._grown(offset, data)
        if grown is not None:
            return grown
        extent = Extent(offset, len(data), Piece(len(data), buffer=bytearray(data)))
        self.replace(offset, extent.end, [extent])
        return extent

    def replace(self, start: int, end: int, extents: list[Extent]) -> None:
        """Put *extents*, ascending and within it, in the place of a range."""
        assert all(extent.length for extent in extents), "it would hide the one at its offset"
        first, last = self._overlap(start, end)
        old = self._extents[first:last]
        new = list(extents)
        if old and old[0].offset < start:
            new.insert(0, old[0].clipped(old[0].offset, start))
        if old and old[-1].end > end:
            new.append(old[-1].clipped(end, old[-1].end))
        self.touched.update(extent.offset for extent in old)
        self.touched.update(extent.offset for extent in new)
        self.memory_bytes += _memory_bytes(new) - _memory_bytes(old)
        self.stored_bytes += _length(new) - _length(old)
        self._extents[first:last] = new
        self._starts[first:last] = [extent.offset for extent in new]

    def truncate(self, size: int) -> None:
        """Forget everything from *size* on."""
        if self._extents and self._extents[-1].end > size:
            self.replace(size, self._extents[-1].end, [])

    def freeze(self) -> tuple[list[Extent], list[int]]:
        """Take what changed: the extents that came or changed, and the offsets where one went.

        The pieces taken grow no more, so that another thread may read them.
        """
        present, gone = [], []
        for offset in self.touched:
            extent = self.at(offset)
            if extent is None:
                gone.append(offset)
            else:
                extent.piece.growing = False
                present.append(extent)
        self.touched = set()
        return present, gone

    def recount(self) -> None:
        """Count memory_bytes again, after pieces became durable."""
        self.memory_bytes = _memory_bytes(self._extents)

    def _overlap(self, start: int, end: int) -> tuple[int, int]:
        """Return the index range of the extents that have a byte between *start* and *end*."""
        first = bisect_right(self._starts, start)
        if first and self._extents[first - 1].end > start:
            first -= 1
        return first, bisect_left(self._starts, end, lo=first)

    def _grown(self, offset: int, data: bytes) -> Extent | None:
        """Append to the piece that ends at *offset*, if it may grow and nothing is in the way."""
        index = bisect_left(self._starts, offset) - 1
        if index < 0:
            return None
        extent = self._extents[index]
        piece = extent.piece
        if (
            not piece.growing
            or extent.end != offset
            or extent.skip + extent.length != piece.length
            or (index + 1 < len(self._starts) and self._starts[index + 1] < offset + len(data))
        ):
            return None
        assert isinstance(piece.buffer, bytearray)
        piece.buffer += data
        piece.length += len(data)
        grown = Extent(extent.offset, extent.length + len(data), piece, extent.skip)
        self._extents[index] = grown
        self.touched.add(grown.offset)
        self.memory_bytes += len(data)
        self.stored_bytes += len(data)
        return grown


def _length(extents: list[Extent]) -> int:
    return sum(extent.length for extent in extents)


def _memory_bytes(extents: list[Extent]) -> int:
    return sum(extent.length for extent in extents if extent.piece.buffer is not None)

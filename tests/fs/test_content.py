"""ContentMap against the plainest model: a list with one cell for each byte."""

from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from libernet.blocks.ids import BlockId
from libernet.blocks.reference import Reference, Suite
from libernet.fs.content import ContentMap, Extent, LogPlace, Piece

_POSITIONS = st.integers(0, 40)
_BYTES = st.binary(min_size=1, max_size=12)

Cells = list[int | None]
"""A file, byte by byte; None is a hole, which is not the same as a zero that was written."""


class Disk:
    """What sealed chunks and records of the data log hold."""

    def __init__(self) -> None:
        self._stored: dict[LogPlace | Reference, bytes] = {}

    def chunk(self, content: bytes) -> Piece:
        reference = Reference(BlockId.of(content), Suite.AES256GCM, bytes(32))
        self._stored[reference] = content
        return Piece(len(content), chunk=reference)

    def log(self, content: bytes) -> LogPlace:
        place = LogPlace(1, len(self._stored))
        self._stored[place] = content
        return place

    def bytes_of(self, piece: Piece) -> bytes:
        if piece.buffer is not None:
            return bytes(piece.buffer)
        backing = piece.chunk or piece.log
        assert backing is not None
        return self._stored[backing]

    def cells(self, extents: Iterable[Extent], start: int, end: int) -> Cells:
        """Return a range as *extents* show it, checking that they are what a file may have."""
        cells: Cells = [None] * (end - start)
        at = start
        for extent in extents:
            assert at <= extent.offset < extent.end <= end
            content = self.bytes_of(extent.piece)
            assert len(content) == extent.piece.length
            shown = content[extent.skip : extent.skip + extent.length]
            assert len(shown) == extent.length
            cells[extent.offset - start : extent.end - start] = shown
            at = extent.end
        return cells


def _put(cells: Cells, offset: int, content: bytes) -> None:
    cells.extend([None] * (offset - len(cells)))
    cells[offset : offset + len(content)] = content


class ContentMachine(RuleBasedStateMachine):
    """Change a map in every way, and follow the rows that checkpoints would write.

    `rows` is what a journal has after each freeze() was applied to it, `frozen` the pieces that a
    checkpoint under way has to make durable, with the file as it was when that began.
    """

    def __init__(self) -> None:
        super().__init__()
        self.disk = Disk()
        self.map = ContentMap()
        self.cells: Cells = []
        self.rows: dict[int, Extent] = {}
        self.frozen: list[Piece] | None = None
        self.frozen_cells: Cells = []

    @initialize(contents=st.lists(_BYTES, max_size=4), gap=st.integers(0, 3))
    def begin_with_what_a_journal_had(self, contents: list[bytes], gap: int) -> None:
        offset = 0
        for content in contents:
            self.rows[offset] = Extent(offset, len(content), self.disk.chunk(content))
            _put(self.cells, offset, content)
            offset += len(content) + gap
        self.map = ContentMap(list(self.rows.values()))

    @rule(offset=_POSITIONS, content=_BYTES)
    def write(self, offset: int, content: bytes) -> None:
        extent = self.map.write(offset, content)
        _put(self.cells, offset, content)
        assert extent.end == offset + len(content)
        assert self.map.at(extent.offset) == extent

    @rule(content=_BYTES)
    def append(self, content: bytes) -> None:
        self.write(len(self.cells), content)

    @rule(size=_POSITIONS)
    def truncate(self, size: int) -> None:
        self.map.truncate(size)
        del self.cells[size:]

    @rule(start=_POSITIONS, content=_BYTES, cut=st.integers(0, 12))
    def replace_with_chunks(self, start: int, content: bytes, cut: int) -> None:
        parts = [part for part in (content[:cut], content[cut:]) if part]
        extents, offset = [], start
        for part in parts:
            extents.append(Extent(offset, len(part), self.disk.chunk(part)))
            offset += len(part)
        self.map.replace(start, offset, extents)
        _put(self.cells, start, content)

    @rule(start=_POSITIONS, end=_POSITIONS)
    def punch_a_hole(self, start: int, end: int) -> None:
        end = min(end, len(self.cells))
        if start < end:
            self.map.replace(start, end, [])
            self.cells[start:end] = [None] * (end - start)

    @rule(start=_POSITIONS, end=_POSITIONS)
    def look(self, start: int, end: int) -> None:
        found = self.map.covering(start, end)
        if start < end:
            expected = (self.cells + [None] * end)[start:end]
            assert self.disk.cells(found, start, end) == expected
        else:
            assert not found

    @precondition(lambda self: self.frozen is None)
    @rule()
    def begin_checkpoint(self) -> None:
        present, gone = self.map.freeze()
        for offset in gone:
            self.rows.pop(offset, None)
        self.rows.update((extent.offset, extent) for extent in present)
        assert self.rows == {extent.offset: extent for extent in self.map}
        self.frozen = [extent.piece for extent in present if extent.piece.buffer is not None]
        self.frozen_cells = list(self.cells)

    @precondition(lambda self: self.frozen is not None)
    @rule()
    def end_checkpoint(self) -> None:
        assert self.frozen is not None
        for piece in set(self.frozen):
            piece.became_durable(self.disk.log(self.disk.bytes_of(piece)))
        self.map.recount()
        self.frozen = None
        rows = [self.rows[offset] for offset in sorted(self.rows)]
        assert all(extent.piece.buffer is None for extent in rows)
        size = len(self.frozen_cells)
        assert self.disk.cells(rows, 0, size) == self.frozen_cells

    @invariant()
    def shows_what_the_model_has(self) -> None:
        extents = list(self.map)
        assert len(self.map) == len(extents)
        assert self.disk.cells(extents, 0, len(self.cells)) == self.cells

    @invariant()
    def counts_what_only_memory_has(self) -> None:
        in_memory = [extent.length for extent in self.map if extent.piece.buffer is not None]
        assert self.map.memory_bytes == sum(in_memory)

    @invariant()
    def counts_what_is_in_no_hole(self) -> None:
        assert self.map.stored_bytes == sum(cell is not None for cell in self.cells)


ContentMachine.TestCase.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)
TestContentMap = ContentMachine.TestCase


def test_writes_one_after_the_other_share_a_piece() -> None:
    content = ContentMap()
    for offset in range(0, 100, 10):
        content.write(offset, bytes(10))
    (extent,) = content
    assert (extent.offset, extent.length, extent.piece.length) == (0, 100, 100)


def test_a_piece_that_was_frozen_grows_no_more() -> None:
    content = ContentMap()
    piece = content.write(0, b"before").piece
    content.freeze()
    assert content.write(6, b"after").piece is not piece
    assert piece.buffer == b"before"


def test_a_write_does_not_grow_over_what_follows() -> None:
    content = ContentMap()
    content.write(5, b"behind")
    content.write(0, b"abc")
    content.write(3, b"def")
    shown = [(extent.offset, extent.length) for extent in content]
    assert shown == [(0, 3), (3, 3), (6, 5)]


def test_nothing_is_frozen_twice() -> None:
    content = ContentMap()
    content.write(0, b"abc")
    content.freeze()
    assert content.freeze() == ([], [])


def test_a_range_that_was_written_again_does_not_show_the_same_pieces() -> None:
    content = ContentMap()
    content.write(0, b"same bytes")
    content.freeze()
    before = content.covering(2, 6)
    assert content.covering(2, 6) == before
    content.write(4, b" ")
    assert content.covering(2, 6) != before


def test_a_whole_chunk_is_one_only_uncut() -> None:
    chunk = Piece(10, chunk=Reference(BlockId(bytes(32)), Suite.AES256GCM, bytes(32)))
    assert Extent(0, 10, chunk).is_whole_chunk
    assert not Extent(0, 10, chunk).clipped(0, 9).is_whole_chunk
    assert not Extent(0, 10, Piece(10, log=LogPlace(1, 0))).is_whole_chunk

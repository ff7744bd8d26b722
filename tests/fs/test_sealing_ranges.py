"""Which ranges of a file are due to be sealed, for any mixture of extents and holes."""

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.reference import Reference, Suite
from libernet.fs.content import ContentMap, Extent, LogPlace, Piece
from libernet.fs.sealing import RangeToSeal, SealedChunk, ranges_to_seal

_KIB = 1024
_SMALL_HOLE_BYTES = 64 * _KIB
_SMALL_CHUNK_BYTES = 256 * _KIB
_REFERENCE = Reference(BlockId(bytes(32)), Suite.AES256GCM, bytes(32))

_LENGTHS = st.one_of(
    st.sampled_from(
        [
            1,
            64 * _KIB - 1,
            64 * _KIB,
            64 * _KIB + 1,
            256 * _KIB - 1,
            256 * _KIB,
            512 * _KIB,
            MAX_CHUNK_BYTES,
        ]
    ),
    st.integers(1, 200 * _KIB),
)
_KINDS = st.sampled_from(["hole", "unsealed", "chunk", "chunk", "cut chunk"])


@dataclass(frozen=True)
class File:
    size: int
    extents: list[Extent]


@st.composite
def _files(draw: st.DrawFn, *, max_parts: int = 12) -> File:
    extents, offset = [], 0
    for kind, length in draw(st.lists(st.tuples(_KINDS, _LENGTHS), max_size=max_parts)):
        if kind == "unsealed":
            extents.append(Extent(offset, length, Piece(length, log=LogPlace(1, offset))))
        elif kind == "chunk":
            extents.append(SealedChunk(_REFERENCE, length).extent(offset))
        elif kind == "cut chunk":
            skip = draw(st.integers(0, 1))
            piece = Piece(length + 1, chunk=_REFERENCE)
            extents.append(Extent(offset, length, piece, skip))
        offset += length
    return File(offset, extents)


_FILES = _files()
_SMALL_FILES = _files(max_parts=3).filter(lambda file: file.size <= MAX_CHUNK_BYTES)


def _holes(file: File) -> list[tuple[int, int]]:
    """Return the ranges of a file in which nothing is."""
    edges = [0, *(at for each in file.extents for at in (each.offset, each.end)), file.size]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(start, end) for start, end in pairs if start < end]


def _is_due(file: File, start: int, end: int) -> bool:
    """Return whether any byte between *start* and *end* is to be sealed."""
    return any(begin < end and stop > start for begin, stop in _ranges(file))


def _ranges(file: File) -> list[tuple[int, int]]:
    return ranges_to_seal(file.extents, file.size)


@settings(deadline=None)
@given(_FILES)
def test_ranges_ascend_without_overlap_within_the_file(file: File) -> None:
    ranges = _ranges(file)
    assert all(0 <= start < end <= file.size for start, end in ranges)
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))


@settings(deadline=None)
@given(_FILES)
def test_all_that_is_no_whole_chunk_is_sealed(file: File) -> None:
    ranges = _ranges(file)
    for extent in file.extents:
        if not extent.is_whole_chunk:
            assert any(start <= extent.offset and extent.end <= end for start, end in ranges)


@settings(deadline=None)
@given(_FILES.filter(lambda file: file.size > MAX_CHUNK_BYTES))
def test_whole_chunks_and_holes_of_a_large_file_are_left_alone(file: File) -> None:
    for extent in file.extents:
        if extent.is_whole_chunk and extent.length >= _SMALL_CHUNK_BYTES:
            assert not _is_due(file, extent.offset, extent.end)
    for start, end in _holes(file):
        if end - start >= _SMALL_HOLE_BYTES:
            assert not _is_due(file, start, end)


@settings(deadline=None)
@given(_FILES.filter(lambda file: file.size > MAX_CHUNK_BYTES))
def test_a_short_chunk_is_sealed_again_only_close_to_something_unsealed(file: File) -> None:
    unsealed = [extent for extent in file.extents if not extent.is_whole_chunk]
    for extent in file.extents:
        if extent.is_whole_chunk and _is_due(file, extent.offset, extent.end):
            near = extent.end + _SMALL_HOLE_BYTES
            assert any(extent.end <= each.offset < near for each in unsealed)


@settings(deadline=None)
@given(_SMALL_FILES)
def test_a_file_that_fits_in_one_chunk_becomes_one(file: File) -> None:
    is_one_chunk = [each.is_whole_chunk and each.length == file.size for each in file.extents]
    expected = [] if is_one_chunk in ([], [True]) else [(0, file.size)]
    assert _ranges(file) == expected


@settings(deadline=None)
@given(st.one_of(_FILES, _SMALL_FILES), st.data())
def test_nothing_is_due_in_a_file_that_was_just_sealed(file: File, data: st.DataObject) -> None:
    content = ContentMap(list(file.extents))
    is_one_chunk = file.size <= MAX_CHUNK_BYTES
    for start, end in _ranges(file):
        wanted = RangeToSeal(None, start, end, content.covering(start, end), is_one_chunk)
        at = start
        while at < end:
            length = end - at
            if not is_one_chunk:
                length = min(length, data.draw(st.integers(100 * _KIB, MAX_CHUNK_BYTES)))
            wanted.chunks.append(SealedChunk(_REFERENCE, length))
            at += length
        content.replace(start, end, wanted.sealed_extents())
    assert ranges_to_seal(list(content), file.size) == []
    assert _lengths_add_up(File(file.size, list(content)))


def _lengths_add_up(file: File) -> bool:
    shown = sum(extent.length for extent in file.extents)
    return shown + sum(end - start for start, end in _holes(file)) == file.size


@settings(deadline=None)
@given(st.lists(st.integers(1, 100 * _KIB), min_size=2, max_size=60))
def test_a_file_that_grows_bit_by_bit_has_no_row_of_short_chunks(lengths: list[int]) -> None:
    content, size = ContentMap(), MAX_CHUNK_BYTES + 1
    for offset in (0, _SMALL_CHUNK_BYTES):
        chunk = SealedChunk(_REFERENCE, _SMALL_CHUNK_BYTES)
        content.replace(offset, offset + chunk.length, [chunk.extent(offset)])
    end = 2 * _SMALL_CHUNK_BYTES
    for length in lengths:
        place = Piece(length, log=LogPlace(1, end))
        content.replace(end, end + length, [Extent(end, length, place)])
        end, size = end + length, max(size, end + length)
        for start, stop in ranges_to_seal(list(content), size):
            sealed = SealedChunk(_REFERENCE, stop - start).extent(start)
            content.replace(start, stop, [sealed])
    short = [each for each in content if each.length < _SMALL_CHUNK_BYTES]
    assert len(short) <= 1

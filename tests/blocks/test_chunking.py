"""Cuts of large files: pinned, independent of how the file is fed, and secret."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyfastcdc.py import FastCDC as PurePythonFastCDC

from libernet.blocks import chunking
from libernet.blocks.chunking import Chunker
from libernet.blocks.limits import MAX_CHUNK_BYTES

SECRET = bytes(range(32))
MIN_CHUNK_BYTES = 256 * 1024

NOISE = random.Random(1).randbytes(4 * 1024 * 1024)
# Noise is cut by content; zeros and a short period only where a chunk is full.
MIXED = NOISE[:2_500_001] + bytes(1_700_000) + NOISE[2_500_001:] + b"abc" * 500_000


def pieces(chunker: Chunker, content: bytes) -> list[bytes]:
    ends = chunker.cuts(content, final=True)
    return [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def cuts_of_a_stream(chunker: Chunker, content: bytes, window_bytes: list[int]) -> list[int]:
    """Return the cuts of *content* when it arrives in windows of these sizes, then the rest."""
    pending = bytearray()
    cut_off, arrived = 0, 0
    ends: list[int] = []
    for size_bytes in window_bytes:
        pending += content[arrived : arrived + size_bytes]
        arrived += size_bytes
        found = chunker.cuts(pending, final=False)
        if found:
            ends += [cut_off + end for end in found]
            cut_off = ends[-1]
            del pending[: found[-1]]
    pending += content[arrived:]
    return ends + [cut_off + end for end in chunker.cuts(pending, final=True)]


def test_the_cuts_of_known_content_never_change() -> None:
    chunker = Chunker(SECRET)
    assert chunker.cuts(NOISE, final=True) == [
        556517,
        1086362,
        1435015,
        1730152,
        2260705,
        2857106,
        3384776,
        3909390,
        4194304,
    ]
    assert chunker.cuts(bytes(3 * 1024 * 1024), final=True) == [1048544, 2097088, 3145632, 3145728]


# In steps, since Hypothesis prefers small numbers, and small files have no cuts to get wrong.
sizes_bytes = st.builds(
    lambda steps, odd: steps * 150_000 + odd, st.integers(0, 38), st.integers(0, 9)
)


@given(st.lists(sizes_bytes, max_size=8), sizes_bytes)
@settings(deadline=None, max_examples=60)
def test_a_stream_is_cut_where_the_whole_would_be(window_bytes: list[int], size_bytes: int) -> None:
    chunker = Chunker(SECRET)
    content = MIXED[:size_bytes]
    expected = chunker.cuts(content, final=True)
    assert cuts_of_a_stream(chunker, content, window_bytes) == expected


@pytest.mark.parametrize("window_bytes", [4096, 128 * 1024, MAX_CHUNK_BYTES, 2**20])
def test_equal_windows_give_the_cuts_of_the_whole(window_bytes: int) -> None:
    chunker = Chunker(SECRET)
    windows = [window_bytes] * (len(MIXED) // window_bytes)
    assert cuts_of_a_stream(chunker, MIXED, windows) == chunker.cuts(MIXED, final=True)


@given(sizes_bytes, sizes_bytes)
@settings(deadline=None, max_examples=40)
def test_every_chunk_but_the_last_is_within_its_bounds(start: int, size_bytes: int) -> None:
    chunks = pieces(Chunker(SECRET), MIXED[start : start + size_bytes])
    assert b"".join(chunks) == MIXED[start : start + size_bytes]
    assert all(MIN_CHUNK_BYTES <= len(chunk) <= MAX_CHUNK_BYTES for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= MAX_CHUNK_BYTES for chunk in chunks[-1:])


def test_chunks_have_about_half_a_mebibyte() -> None:
    chunks = pieces(Chunker(SECRET), random.Random(2).randbytes(32 * 1024 * 1024))
    assert 48 <= len(chunks) <= 80


def test_an_empty_file_has_no_chunk() -> None:
    assert Chunker(SECRET).cuts(b"", final=True) == []
    assert Chunker(SECRET).cuts(b"", final=False) == []


def test_nothing_is_cut_while_more_bytes_could_move_the_cut() -> None:
    chunker = Chunker(SECRET)
    assert chunker.cuts(NOISE[: MAX_CHUNK_BYTES - 1], final=False) == []
    assert chunker.cuts(NOISE[:MAX_CHUNK_BYTES], final=False) == [556517]


def test_an_insertion_at_the_front_leaves_almost_all_chunks_as_they_were() -> None:
    chunker = Chunker(SECRET)
    before = set(pieces(chunker, NOISE))
    after = pieces(chunker, b"37 bytes that were not there before.." + NOISE)
    assert sum(chunk not in before for chunk in after) <= 2


def test_another_secret_cuts_elsewhere() -> None:
    ours = Chunker(SECRET).cuts(NOISE, final=True)
    theirs = Chunker(bytes(32)).cuts(NOISE, final=True)
    assert set(ours[:-1]).isdisjoint(theirs[:-1])


@given(st.binary(min_size=32, max_size=32))
@settings(deadline=None)
def test_every_secret_gives_a_chunker(secret: bytes) -> None:
    assert Chunker(secret).cuts(b"small", final=True) == [5]


def test_the_buffer_is_free_again_after_the_cuts_are_found() -> None:
    buffer = bytearray(NOISE)
    Chunker(SECRET).cuts(buffer, final=False)
    buffer += b"it could not grow under a view"


def test_one_chunker_serves_many_threads() -> None:
    chunker = Chunker(SECRET)
    contents = [NOISE[start:] for start in range(0, 1_000_000, 50_000)]
    alone = [chunker.cuts(content, final=True) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda content: chunker.cuts(content, final=True), contents)) == alone


def test_a_secret_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="a secret has 32 bytes, not 16"):
        Chunker(bytes(16))


def test_a_pyfastcdc_without_its_compiled_part_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunking, "FastCDC", PurePythonFastCDC)
    with pytest.raises(ImportError, match="pip install --force-reinstall"):
        Chunker(SECRET)

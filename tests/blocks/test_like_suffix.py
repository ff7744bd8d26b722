"""Suffixes that make one id like another, found in bounded time and read by every rule."""

import hashlib
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libernet.blocks.errors import BlockTooLarge, LibernetError
from libernet.blocks.ids import BlockId
from libernet.blocks.like_suffix import (
    MAX_SCORE,
    common_bits,
    like_block,
    like_suffix,
)
from libernet.blocks.limits import MAX_BLOCK_BYTES, MAX_PUBLIC_CHUNK_BYTES
from libernet.blocks.public_sealing import seal_public, without_suffix
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.sealing import unseal

_TARGET = BlockId(hashlib.sha256(b"target").digest())


def _bits(block_id: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in block_id)


def _counted(one: bytes, other: bytes) -> int:
    """Count leading bits in common one after the other."""
    count = 0
    for left, right in zip(_bits(one), _bits(other), strict=True):
        if left != right:
            break
        count += 1
    return count


def _as_the_original_counts(one: bytes, other: bytes) -> int:
    """Count them by bytes, the bits of the first that differ with `lstrip('0b')`."""
    for place, (left, right) in enumerate(zip(one, other, strict=True)):
        if left != right:
            return 8 * place + 8 - len(bin(left ^ right).lstrip("0b"))
    return 256


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(0, 32))
def test_bits_in_common_are_counted_as_one_would_by_hand_and_as_the_original_does(
    one: bytes, other: bytes, shared: int
) -> None:
    other = one[:shared] + other[shared:]
    assert common_bits(one, other) == _counted(one, other) == _as_the_original_counts(one, other)


@pytest.mark.parametrize("score", [0, 1, 7, 8, 12, 14, 15, 16])
def test_a_suffix_makes_the_id_like_the_target(score: int) -> None:
    content = os.urandom(1000)
    suffix = like_suffix(content, _TARGET, score)
    assert common_bits(BlockId.of(content + suffix), _TARGET) >= score
    assert len(suffix) == score // 8 + 4 < 16
    assert suffix[0] == 0
    assert 0 not in suffix[1:]


def test_the_score_at_which_the_original_does_not_end_is_met_every_time() -> None:
    for number in range(100):
        suffix = like_suffix(b"%d" % number, _TARGET, 7)
        assert common_bits(BlockId.of(b"%d%b" % (number, suffix)), _TARGET) >= 7


def test_two_searches_find_different_suffixes() -> None:
    assert like_suffix(b"content", _TARGET, 4) != like_suffix(b"content", _TARGET, 4)


@pytest.mark.parametrize("score", [-1, MAX_SCORE + 1])
def test_a_score_that_would_take_too_long_is_refused(score: int) -> None:
    with pytest.raises(ValueError, match="score"):
        like_suffix(b"", _TARGET, score)


def test_a_search_that_cannot_succeed_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        """A hash that never comes near."""

        def copy(self) -> "Stuck":
            return self

        def update(self, more: bytes) -> None:
            pass

        def digest(self) -> bytes:
            return bytes(byte ^ 0xFF for byte in _TARGET)

    monkeypatch.setattr(hashlib, "sha256", lambda content: Stuck())
    with pytest.raises(LibernetError, match="no suffix"):
        like_suffix(b"", _TARGET, 1)


@given(st.binary(max_size=200))
def test_a_block_with_a_suffix_opens_like_the_one_without(chunk: bytes) -> None:
    reference, block = seal_public(chunk)
    block_id, stored = like_block(block, _TARGET, 5)
    assert block_id == BlockId.of(stored)
    assert common_bits(block_id, _TARGET) >= 5
    assert unseal(Reference(block_id, Suite.AES256, reference.key), stored) == chunk
    assert stored[: stored.rindex(0)] == block  # as the original reads it


@given(st.binary(max_size=200))
def test_a_plain_block_has_its_suffix_inside(chunk: bytes) -> None:
    content = chunk + like_suffix(chunk, _TARGET, 5)
    block_id = BlockId.of(content)
    assert common_bits(block_id, _TARGET) >= 5
    for stored in (content, zlib.compress(content)):
        assert without_suffix(unseal(Reference(block_id, Suite.PLAIN, b""), stored)) == chunk


def test_a_block_with_no_room_for_a_suffix_is_refused() -> None:
    _, block = seal_public(os.urandom(MAX_PUBLIC_CHUNK_BYTES))
    assert len(like_block(block, _TARGET, 0)[1]) == 1024 * 1024 + 4
    with pytest.raises(BlockTooLarge):
        like_block(bytes(MAX_BLOCK_BYTES), _TARGET, 0)


def test_a_block_that_has_a_suffix_gets_no_second_one() -> None:
    with pytest.raises(ValueError, match="suffix"):
        like_block(bytes(17), _TARGET, 0)

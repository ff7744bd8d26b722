"""Suffixes that make a block's id like another one: the search of the original's `like`.

A suffix is 0x00 and then bytes of which none is zero, so that whoever knows of it cuts at the last
zero byte. It stands behind the ciphertext of an encrypted block, where the odd length betrays
it too, and inside the plaintext of a plain one, before compression. Either way the id is the
SHA-256 of some bytes with the suffix behind them, which is what is searched for here.

The original draws score // 8 + 1 bytes and deletes the zeros among them, 255^k possibilities where
about 2^(8k-1) are needed when score % 8 is 7: it then goes on for ever with a probability of e^-2.
Here there are always two bytes more than the original's, and a bound.
"""

import hashlib
import secrets

from typing_extensions import Buffer

from libernet.blocks.errors import BlockTooLarge, LibernetError
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_BLOCK_BYTES

DEFAULT_SCORE = 12
"""How many leading bits the original wants in common: 4,096 tries, about 3 ms."""

MAX_SCORE = 24
"""Most that may be asked for: 17 million tries, a quarter of a minute; each bit more doubles it."""

_ID_BITS = 256
_CIPHER_BYTES = 16
_MOST_ROUNDS = 64
"""Tries per expected one before giving up: it comes to that with a probability of e^-64."""

_NOT_ZERO = [bytes([byte]) for byte in range(1, 256)]


def common_bits(one: bytes, other: bytes) -> int:
    """Return how many leading bits two ids have in common, 256 if they are equal."""
    return _ID_BITS - (int.from_bytes(one) ^ int.from_bytes(other)).bit_length()


def like_suffix(content: Buffer, target: BlockId, score: int = DEFAULT_SCORE) -> bytes:
    """Return a suffix behind which the SHA-256 of *content* begins with *target*'s first bits.

    *score* is how many, 0 to MAX_SCORE; it takes 2^score tries on average, 0.4 us each. Suffixes
    are drawn at random: equal calls give different ones, of the same length (score // 8 + 4).
    """
    if not 0 <= score <= MAX_SCORE:
        raise ValueError(f"a score is 0 to {MAX_SCORE} leading bits in common, not {score}")
    wanted = int.from_bytes(target) >> (_ID_BITS - score)
    started = hashlib.sha256(content)
    tries = 0
    while tries < _MOST_ROUNDS << score:
        head = b"\0" + bytes(1 + secrets.randbelow(255) for _ in range(score // 8 + 1))
        found = _with_head(started, head, wanted, score)
        if found is not None:
            return found
        tries += len(_NOT_ZERO) ** 2
    raise LibernetError(f"no suffix was found in {tries} tries")  # if that happens, SHA-256 broke


def _with_head(started: "hashlib._Hash", head: bytes, wanted: int, score: int) -> bytes | None:
    """Try all suffixes of *head* and two more bytes: each costs the hash of a block or two."""
    at_head = started.copy()
    at_head.update(head)
    shift = _ID_BITS - score
    first = secrets.randbelow(len(_NOT_ZERO))
    for one in _NOT_ZERO[first:] + _NOT_ZERO[:first]:
        at_one = at_head.copy()
        at_one.update(one)
        for other in _NOT_ZERO:
            tried = at_one.copy()
            tried.update(other)
            if int.from_bytes(tried.digest()) >> shift == wanted:
                return head + one + other
    return None


def like_block(block: Buffer, target: BlockId, score: int = DEFAULT_SCORE) -> tuple[BlockId, bytes]:
    """Return an encrypted block with a suffix that makes it like *target*, and its id.

    Raises BlockTooLarge when there is no room for the suffix, and ValueError for a block that is
    not whole cipher blocks: nobody could tell how long its suffix is.
    """
    sealed = bytes(block)
    if len(sealed) % _CIPHER_BYTES:
        raise ValueError(f"an encrypted block of {len(sealed)} bytes has a suffix or is none")
    stored = sealed + like_suffix(sealed, target, score)
    if len(stored) > MAX_BLOCK_BYTES:
        raise BlockTooLarge(f"with its suffix the block would have {len(stored)} bytes")
    return BlockId.of(stored), stored

"""Chunk to block and back, in the suites of the original Libernet.

    aes256       body  = the chunk, or zlib of it if that is shorter
                 key   = SHA-256(chunk)
                 block = AES-256-CBC(key, IV = sixteen times 0x30, body with PKCS7 padding)
                 id    = SHA-256(block)
    passphrase   the same, never deflated; key = SHA-256(passphrase), so nothing shows a wrong one
    plain        block = the chunk, or zlib of it; id = SHA-256(chunk)

Everybody who has a chunk gets the same key, on every node: what is published to all is sealed so.
The zlib encoder is nobody's business but the writer's: equal chunks may have two ids.

A block that was made `like` another has a suffix, a zero byte and random bytes without one, behind
its ciphertext. The length of ciphertext is a multiple of 16, so the suffix shows. A plain block has
it inside, and nothing but its finder's knowledge tells: `without_suffix`.
"""

import hashlib
import threading
import zlib

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from typing_extensions import Buffer

from libernet.blocks.errors import BlockCorrupt, BlockTooLarge
from libernet.blocks.ids import BlockId
from libernet.blocks.inflating import inflated
from libernet.blocks.limits import MAX_BLOCK_BYTES, MAX_PUBLIC_CHUNK_BYTES
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.samples import shrinks

_IV = modes.CBC(b"0" * 16)
_CIPHER_BYTES = 16
_ZLIB_LEVEL = 6


def seal_public(chunk: Buffer) -> tuple[Reference, bytes]:
    """Return the block that holds *chunk* for everybody, and the reference that opens it.

    Raises BlockTooLarge for more than MAX_PUBLIC_CHUNK_BYTES. Any thread may.
    """
    with memoryview(chunk) as given, given.cast("B") as plain:
        if len(plain) > MAX_PUBLIC_CHUNK_BYTES:
            raise BlockTooLarge(
                f"a chunk has {len(plain)} bytes, at most {MAX_PUBLIC_CHUNK_BYTES} can be published"
            )
        key = hashlib.sha256(plain).digest()
        body: Buffer = plain
        if shrinks(plain, _scratch.zstd):
            deflated = zlib.compress(plain, _ZLIB_LEVEL)
            if len(deflated) < len(plain):
                body = deflated
        block = _scratch.encrypt(key, body)
    return Reference(BlockId.of(block), Suite.AES256, key), block


def unseal_public(reference: Reference, block: Buffer) -> bytes:
    """Return the chunk of a block in one of the original's suites, or raise BlockCorrupt.

    The caller has checked the block against its id. Nothing shows whether a passphrase was right.
    """
    if reference.suite is Suite.PLAIN:
        return _open_plain(reference.id, block)
    body = _decrypt(reference, block)
    if reference.suite is Suite.PASSPHRASE:
        return body
    if hashlib.sha256(body).digest() == reference.key:
        return body
    chunk = inflated(body, MAX_BLOCK_BYTES)
    if chunk is None or hashlib.sha256(chunk).digest() != reference.key:
        raise BlockCorrupt(f"block {reference.id} does not open with its key")
    return chunk


def opens_to_public(reference: Reference, chunk: Buffer) -> bool:
    """Return whether a chunk is known to be that of a block, without the block."""
    digest = hashlib.sha256(chunk).digest()
    if reference.suite is Suite.AES256:
        return digest == reference.key
    return reference.suite is Suite.PLAIN and digest == reference.id


def passphrase_key(passphrase: str) -> bytes:
    """Return the key of a passphrase: unsalted, so for reading what the original wrote only."""
    return hashlib.sha256(passphrase.encode()).digest()


def without_suffix(chunk: bytes) -> bytes:
    """Return what a plain block held before it was made `like` another.

    Whether it was cannot be seen: on any other chunk this cuts at its last zero byte. Raises
    BlockCorrupt where there is none.
    """
    end = chunk.rfind(b"\0")
    if end < 0:
        raise BlockCorrupt("a block that is said to have a suffix has none")
    return chunk[:end]


def _open_plain(block_id: BlockId, block: Buffer) -> bytes:
    if BlockId.of(block) == block_id:
        return bytes(block)
    chunk = inflated(block, MAX_BLOCK_BYTES)
    if chunk is None or BlockId.of(chunk) != block_id:
        raise BlockCorrupt(f"block {block_id} is damaged")
    return chunk


def _decrypt(reference: Reference, block: Buffer) -> bytes:
    sealed = memoryview(block).cast("B")
    suffix_bytes = len(sealed) % _CIPHER_BYTES
    sealed_bytes = len(sealed) - suffix_bytes
    if not sealed_bytes or (suffix_bytes and sealed[sealed_bytes] != 0):
        raise BlockCorrupt(f"block {reference.id} has {len(sealed)} bytes, which no sealed one has")
    body = _scratch.decrypt(reference.key, sealed[:sealed_bytes])
    if body is None:
        raise BlockCorrupt(f"block {reference.id} does not open with its key: its padding is wrong")
    return body


class _Scratch(threading.local):
    """What each thread has for itself.

    State: a buffer, since a fresh megabyte for each block is paid for in page faults; a compressor
    that tries samples, as zlib takes 20 times longer to find that nothing is to be gained.
    """

    def __init__(self) -> None:
        self.zstd = zstandard.ZstdCompressor(level=1)
        self._buffer = memoryview(bytearray(MAX_BLOCK_BYTES + 2 * _CIPHER_BYTES))

    def encrypt(self, key: bytes, body: Buffer) -> bytes:
        """Return *body*, padded, under *key*."""
        view = memoryview(body)
        pad = _CIPHER_BYTES - view.nbytes % _CIPHER_BYTES
        encryptor = Cipher(algorithms.AES256(key), _IV).encryptor()
        whole_bytes = view.nbytes + pad - _CIPHER_BYTES
        encryptor.update_into(view[:whole_bytes], self._buffer)
        last = bytes(view[whole_bytes:]) + bytes([pad]) * pad
        encryptor.update_into(last, self._buffer[whole_bytes:])
        return bytes(self._buffer[: whole_bytes + _CIPHER_BYTES])

    def decrypt(self, key: bytes, sealed: memoryview) -> bytes | None:
        """Return what *sealed*, of whole cipher blocks, holds under *key*; None if badly padded."""
        if len(sealed) > MAX_BLOCK_BYTES:
            return None
        Cipher(algorithms.AES256(key), _IV).decryptor().update_into(sealed, self._buffer)
        pad = self._buffer[len(sealed) - 1]
        end = len(sealed) - pad
        padding = self._buffer[max(end, 0) : len(sealed)]
        if not 1 <= pad <= _CIPHER_BYTES or padding != bytes([pad]) * pad:
            return None
        return bytes(self._buffer[:end])


_scratch = _Scratch()

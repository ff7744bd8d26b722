"""Chunk to block and back, in the suite `aes256gcm`.

    payload = codec byte + body         0: the chunk itself, 1: one zstd frame of it with its size
    key     = HMAC-SHA256(secret, "libernet aes256gcm v1" + payload)
    block   = AES-256-GCM(key, nonce = 12 zero bytes, payload), ciphertext then tag
    id      = SHA-256(block)

The nonce may be fixed because the key is a function of exactly the bytes that are encrypted: two
payloads never share a key. Equal chunks give equal blocks under one secret and unrelated ones
under another, so an account deduplicates and nobody else can tell what it holds.
"""

import hmac
import threading
from typing import Final

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typing_extensions import Buffer

from libernet.blocks.errors import BlockCorrupt, BlockTooLarge
from libernet.blocks.ids import BlockId
from libernet.blocks.limits import MAX_CHUNK_BYTES
from libernet.blocks.public_sealing import opens_to_public, unseal_public
from libernet.blocks.reference import Reference, Suite
from libernet.blocks.samples import shrinks
from libernet.blocks.secret import SECRET_BYTES

_LABEL = b"libernet aes256gcm v1"
_NONCE = bytes(12)
_TAG_BYTES = 16
_CODEC_BYTES = 1
_MIN_BLOCK_BYTES = _CODEC_BYTES + _TAG_BYTES
_MAX_BLOCK_BYTES = _CODEC_BYTES + MAX_CHUNK_BYTES + _TAG_BYTES

_RAW: Final = 0
_ZSTD: Final = 1
# Frozen, as is which chunks it is tried on: other bytes for the same chunk are stored once more.
_ZSTD_LEVEL = 3


class Sealer:
    """Seal chunks under one secret, from any number of threads at once.

    State: a started HMAC that is only ever copied.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret has {SECRET_BYTES} bytes, not {len(secret)}")
        self._started_mac = hmac.new(secret, _LABEL, "sha256")

    def seal(self, chunk: Buffer) -> tuple[Reference, bytes]:
        """Return the block that holds *chunk* and the reference that opens it.

        Raises BlockTooLarge for more than MAX_CHUNK_BYTES. An empty chunk gives a block too.
        """
        with memoryview(chunk) as given, given.cast("B") as plain:
            if len(plain) > MAX_CHUNK_BYTES:
                raise BlockTooLarge(
                    f"a chunk has {len(plain)} bytes, at most {MAX_CHUNK_BYTES} can be sealed"
                )
            payload = _scratch.payload_of(plain)
        # Not hmac.digest: in Python 3.11 that holds the GIL.
        mac = self._started_mac.copy()
        mac.update(payload)
        key = mac.digest()
        block = _encrypted(key, payload)
        return Reference(BlockId.of(block), Suite.AES256GCM, key), block


class _Scratch(threading.local):
    """What each sealing thread has for itself.

    State: a compressor, which is not thread-safe, and a buffer for one payload, since a fresh
    1 MiB for each chunk is paid for in page faults.
    """

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(
            level=_ZSTD_LEVEL,
            write_content_size=True,
            write_checksum=False,
            write_dict_id=False,
        )
        self._buffer = memoryview(bytearray(_CODEC_BYTES + MAX_CHUNK_BYTES))

    def payload_of(self, plain: memoryview) -> memoryview:
        """Return codec byte and body for *plain*, valid until the next call in this thread."""
        if shrinks(plain, self._compressor):
            compressed = self._compressor.compress(plain)
            if len(compressed) < len(plain):
                return self._filled(_ZSTD, compressed)
        return self._filled(_RAW, plain)

    def _filled(self, codec: int, body: bytes | memoryview) -> memoryview:
        payload = self._buffer[: _CODEC_BYTES + len(body)]
        payload[0] = codec
        payload[_CODEC_BYTES:] = body
        return payload


_scratch = _Scratch()


def _encrypted(key: bytes, payload: memoryview) -> bytes:
    return AESGCM(key).encrypt(_NONCE, payload, None)


class _Inflating(threading.local):
    """What each unsealing thread has for itself.

    State: a decompressor, which is not thread-safe: making one takes as long as inflating 4 KiB.
    """

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()


_inflating = _Inflating()


def opens_to(reference: Reference, content: Buffer) -> bool:
    """Return whether *content* is what the block that *reference* names holds, without that block.

    True is certain. False may come of a block that was packed by another program.
    """
    if reference.suite is not Suite.AES256GCM:
        return opens_to_public(reference, content)
    with memoryview(content) as given, given.cast("B") as plain:
        if len(plain) > MAX_CHUNK_BYTES:
            return False
        block = _encrypted(reference.key, _scratch.payload_of(plain))
    return BlockId.of(block) == reference.id


def unseal(reference: Reference, block: Buffer) -> bytes:
    """Return the chunk that *block*, of whatever suite, holds, or raise BlockCorrupt.

    The caller has checked the block against its id: GCM does not commit to its key, so the tag
    alone does not show that this is the block the reference names. Never more than MAX_BLOCK_BYTES
    are inflated.
    """
    if reference.suite is not Suite.AES256GCM:
        return unseal_public(reference, block)
    sealed = memoryview(block).cast("B")
    if not _MIN_BLOCK_BYTES <= len(sealed) <= _MAX_BLOCK_BYTES:
        raise BlockCorrupt(f"block {reference.id} has {len(sealed)} bytes, which no sealed one has")
    codec, body = _decrypt(reference, sealed)
    if codec == _RAW:
        return body
    if codec == _ZSTD:
        return _inflate(body, reference.id)
    raise BlockCorrupt(f"block {reference.id} is packed with the unknown codec {codec}")


def _decrypt(reference: Reference, sealed: memoryview) -> tuple[int, bytes]:
    """Return codec byte and body.

    In two steps, because AESGCM.decrypt would return them in one piece: cutting a fresh 1 MiB out
    of another one took 950 us in page faults, this takes 100.
    """
    tag = bytes(sealed[-_TAG_BYTES:])
    decryptor = Cipher(algorithms.AES256(reference.key), modes.GCM(_NONCE, tag)).decryptor()
    codec = decryptor.update(sealed[:_CODEC_BYTES])
    body = decryptor.update(sealed[_CODEC_BYTES:-_TAG_BYTES])
    try:
        decryptor.finalize()
    except InvalidTag as exc:
        raise BlockCorrupt(f"block {reference.id} does not open with its key") from exc
    return codec[0], body


def _inflate(frame: bytes, block_id: BlockId) -> bytes:
    try:
        # -1 is an unknown size. 0 is refused too: zstandard would not look at what follows, and
        # an empty chunk is always raw.
        size_bytes = zstandard.frame_content_size(frame)
        if not 0 < size_bytes <= MAX_CHUNK_BYTES:
            raise BlockCorrupt(
                f"block {block_id} inflates to {size_bytes} bytes, not to 1 to {MAX_CHUNK_BYTES}"
            )
        return _inflating.decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise BlockCorrupt(f"block {block_id} does not inflate: {exc}") from exc
